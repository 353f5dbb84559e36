"""Linear classifiers: features against plain Python, exact scores, files that survive or are refused."""

import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from data_prep.curation.classifiers.hashing import CHARACTER_RUNS, LONGEST_WORD, grams_of
from data_prep.curation.classifiers.linear import CARD, LONGEST_SEGMENT, WEIGHTS, LinearModel, load_linear, segments
from data_prep.curation.classifiers.linear import logit_features as features
from data_prep.curation.classifiers.measured import auc, auc_interval, threshold_table
from data_prep.errors import DataError

BITS = 20
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=6)


def random_model(window: int = 0, bits: int = BITS) -> LinearModel:
    weights = np.random.default_rng(3).integers(-32000, 32000, 2**bits).astype(np.int16)
    return LinearModel(weights, 1e-5, 0.1, ("bad", "good"), window, {"note": "random"})


def plain_runs(text: str) -> Counter[str]:
    """The character n-grams that the features stand for, as strings."""
    plain = " ".join(text.lower().split())
    return Counter(plain[at : at + n] for n in CHARACTER_RUNS for at in range(len(plain) - n + 1))


def plain_words(text: str) -> list[str]:
    plain = " ".join(text.lower().split())
    return "".join(letter if letter.isalnum() or letter == "'" else " " for letter in plain).split()


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_buckets_stand_for_the_character_runs_of_plain_python(texts: list[str]) -> None:
    grams = grams_of(texts, BITS)
    owner = [np.searchsorted(grams.ends, begins, side="right") for begins, _ in grams.characters]
    for index, text in enumerate(texts):
        found = sorted(int(b) for (_, k), o in zip(grams.characters, owner, strict=True) for b in k[o == index])
        assert len(found) == sum(plain_runs(text).values())
        alone = grams_of([text], BITS)
        assert found == sorted(int(bucket) for _, buckets in alone.characters for bucket in buckets)


def test_words_and_pairs_are_those_of_plain_python() -> None:
    text = "Don't  PANIC -- the Übergröße (42) of naïve rock’n’roll; o.k.?"
    grams = grams_of([text], BITS)
    words = plain_words(text.replace("’", "'"))
    assert [len(buckets) for _, buckets in grams.words] == [len(words), len(words) - 1]
    assert grams_of(["panic"], BITS).words[0][1][0] == grams.words[0][1][1]
    swapped = grams_of(["the panic"], BITS).words[1][1][0]
    assert swapped != grams_of(["panic the"], BITS).words[1][1][0], "a pair has an order"


def test_equal_words_share_a_bucket_and_others_hardly_ever() -> None:
    words = [f"w{number}" for number in range(3000)]
    [(_, buckets), _] = grams_of([" ".join(words + words)], BITS).words
    assert (buckets[:3000] == buckets[3000:]).all()
    assert len(set(buckets[:3000].tolist())) > 2980


def test_no_gram_spans_two_texts_and_long_words_are_cut() -> None:
    first, second = grams_of(["ab", "cd"], BITS), grams_of(["ab cd"], BITS)
    assert all(not len(begins) for begins, _ in first.characters)
    assert [len(buckets) for _, buckets in first.words] == [2, 0]
    assert [len(buckets) for _, buckets in second.words] == [2, 1]
    long = "x" * LONGEST_WORD
    assert grams_of([long + "a"], BITS).words[0][1] == grams_of([long + "b"], BITS).words[0][1]


@pytest.mark.parametrize("window", [0, 40])
@given(texts=TEXTS)
@settings(max_examples=40, deadline=None)
def test_a_score_does_not_depend_on_the_other_texts(window: int, texts: list[str]) -> None:
    model = random_model(window, 13)
    together = model.scores(texts)
    assert together == [model.scores([text])[0] for text in texts]
    assert together == model.scores(texts[::-1])[::-1]


def test_the_score_is_the_stated_formula() -> None:
    model, text = random_model(), "A plain sentence, with some words in it."
    row = features(grams_of([text], BITS), BITS)
    logit = model.scale * float(row.dot(model.weights.astype(float))[0]) + model.bias
    assert model.scores([text]) == [round(1 / (1 + math.exp(-logit)), 6)]
    assert model.scores(["", "  \n"]) == [None, None]


def test_the_worst_passage_of_a_long_text_counts() -> None:
    text = "calm words flow here " * 30
    model = random_model()
    weights = np.zeros_like(model.weights)
    for _, buckets in grams_of(["vile"], BITS).words[:1]:
        weights[buckets] = 32000
    whole, passages = replace(model, weights=weights), replace(model, weights=weights, window=100)
    planted = text[:300] + " vile " + text[300:]
    assert passages.scores([planted])[0] > whole.scores([planted])[0]  # pyright: ignore
    assert passages.scores([text]) == whole.scores([text])
    short = planted[280:360]
    assert passages.scores([short]) == whole.scores([short]), "a short text is one passage"


def test_long_texts_are_cut_at_spaces_and_stay_whole_together() -> None:
    text = "word " * 50_000
    pieces = list(segments(text))
    assert "".join(pieces) == text and max(map(len, pieces)) <= LONGEST_SEGMENT
    assert all(piece.endswith(" ") for piece in pieces)
    assert "".join(segments("x" * 200_000)) == "x" * 200_000


def test_hostile_texts_take_linear_time() -> None:
    model = random_model(300, 17)
    for text in ("\0" * 10**6, "a" * 10**6, " " * 10**6, "é́" * 5 * 10**5, "\ud800" * 10**6, "a " * 5 * 10**5):
        start = time.perf_counter()
        model.scores([text])
        assert time.perf_counter() - start < 10, repr(text[:4])  # a hang guard: measured below 0.3 s


def test_saved_and_loaded_is_the_same_and_the_same_bytes(tmp_path: Path) -> None:
    model = random_model(300, 12)
    for folder in ("a", "b"):
        model.save(tmp_path / folder)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert (tmp_path / "a" / CARD).read_bytes() == (tmp_path / "b" / CARD).read_bytes()
    loaded = load_linear(tmp_path / "a")
    assert loaded.scores(["some text"]) == model.scores(["some text"])
    assert (loaded.labels, loaded.window, loaded.bits) == (("bad", "good"), 300, 12)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    random_model(0, 12).save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())

    def refused(match: str, **changed: object) -> None:
        (tmp_path / CARD).write_text(json.dumps(card | changed))
        with pytest.raises(DataError, match=match):
            load_linear(tmp_path)

    refused("of format other/1, needed is provetune-linear/1", format="other/1")
    refused("damaged .*do not fit int16 weights", features={"scheme": "x", "bits": 12, "window": 0})
    refused("damaged .*do not fit int16 weights", features=card["features"] | {"bits": 13})
    refused("damaged .ValueError", labels=["one"])
    refused("damaged .ValueError: scale nan", scale=float("nan"))
    refused("damaged .TypeError", bias=None)
    (tmp_path / CARD).write_text(json.dumps(card))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(DataError, match="not the weights that card.json describes; copy both again, or train again"):
        load_linear(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(DataError, match="cannot be read .*; copy the whole folder"):
        load_linear(tmp_path)
    (tmp_path / CARD).write_text("[")
    with pytest.raises(DataError, match="cannot be read .no JSON.; give a folder that train-quality wrote"):
        load_linear(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=40))
def test_auc_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = [score / 5 for score, _ in pairs] + [0.5, 0.5], [label for _, label in pairs] + [True, False]
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_the_interval_holds_the_auc_and_narrows() -> None:
    random = np.random.default_rng(0)
    for n, width in ((50, 0.3), (2000, 0.05)):
        labels = [True] * n + [False] * n
        scores = random.normal(0, 1, 2 * n) + np.array(labels)
        low, high = auc_interval(scores.tolist(), labels, 1)
        assert low < auc(scores.tolist(), labels) < high and high - low < width
        assert (low, high) == auc_interval(scores.tolist(), labels, 1)


def test_the_threshold_table_counts() -> None:
    table = threshold_table([0.95, 0.55, 0.45, 0.05], [True, False, True, False])
    assert table[4] == {"threshold": 0.5, "precision": 0.5, "recall": 0.5, "kept": 0.5}
    assert table[0]["recall"] == 1.0

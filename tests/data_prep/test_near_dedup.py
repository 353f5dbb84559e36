"""Near-duplicates: what is removed and why, against exact similarities from slow reference shingles."""

import itertools
import math
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_dedup_reference import jaccard, planted, shingles_reference, vocabulary
from pydantic import ValidationError

from data_prep.curation.near_dedup import candidates, verify
from data_prep.curation.near_dedup.candidates import bands, propose, proposed_share
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.find import find_near_duplicates
from data_prep.curation.near_dedup.shingles import sign
from data_prep.errors import DataError


def test_precision_and_recall_on_planted_near_duplicates():
    found_close = all_close = 0
    for seed in range(2):
        texts, pairs = planted(seed)
        found = find_near_duplicates(texts, NearDedup())
        for first, second in pairs:
            true = jaccard(shingles_reference(texts[first], 5), shingles_reference(texts[second], 5))
            one_removed = not (found.kept[first] and found.kept[second])
            all_close += true >= 0.85
            found_close += one_removed and true >= 0.85
            assert not one_removed or true >= 0.8, f"removed at {true}"
            if one_removed:
                removed = second if found.kept[first] else first
                assert found.of(removed) == (first + second - removed, pytest.approx(true, abs=1e-12))
    assert all_close > 150
    assert found_close / all_close >= 0.97


def kept_by(keep: str) -> NearDedup:
    fields = {"best": {"best_of": "score"}, "earliest": {"earliest_by": "date"}}
    return NearDedup(keep=keep, **fields.get(keep, {}))


def check_promises(texts: list[str], config: NearDedup) -> None:
    found = find_near_duplicates(texts, config)
    shingles = [shingles_reference(text, config.words) for text in texts]
    for row in range(len(texts)):
        witness = found.of(row)
        if witness is None:
            assert math.isnan(found.similarity[row])
            continue
        other, similarity = witness
        assert found.kept[other] and found.group[other] == found.group[row]
        assert similarity == pytest.approx(jaccard(shingles[row], shingles[other]))
        assert found.containment[row] == pytest.approx(len(shingles[row] & shingles[other]) / len(shingles[row]))
        assert similarity >= config.threshold
    for group in set(found.group.tolist()):
        assert found.kept[group], "the first row of a group is kept"


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=14), min_size=1, max_size=25), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_every_removed_row_has_a_kept_witness(texts: list[list[str]], words: int):
    check_promises([" ".join(text) for text in texts], NearDedup(words=words, threshold=0.6))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=20), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_input_does_not_matter(texts: list[str], shuffler: random.Random):
    config, order = NearDedup(words=2, threshold=0.6), list(range(len(texts)))
    shuffler.shuffle(order)
    found = find_near_duplicates(texts, config, keys=list(range(len(texts))))
    again = find_near_duplicates([texts[row] for row in order], config, keys=order)
    for place, row in enumerate(order):
        expected = found.of(row)
        assert again.of(place) == (expected and (order.index(expected[0]), expected[1]))
        assert order[again.group[place]] == found.group[row]


def chain(steps: int) -> list[str]:
    """Each text is near the next one and far from the one after it."""
    draw, words = random.Random(3), vocabulary(3)
    text, texts = draw.sample(words, 200), []
    for _ in range(steps):
        texts.append(" ".join(text))
        text = text[8:] + draw.sample(words, 8)
    return texts


def test_nothing_is_removed_on_transitivity_alone():
    texts = chain(12)
    shingles = [shingles_reference(text, 5) for text in texts]
    assert jaccard(shingles[0], shingles[1]) > 0.8 and jaccard(shingles[0], shingles[6]) < 0.8
    found = find_near_duplicates(texts, NearDedup(keep="first"))
    assert set(found.group.tolist()) == {0}
    check_promises(texts, NearDedup(keep="first"))
    kept = np.flatnonzero(found.kept).tolist()
    assert 2 <= len(kept) < len(texts)
    assert all(jaccard(shingles[a], shingles[b]) < 0.8 for a, b in itertools.combinations(kept, 2))


def test_a_removed_row_names_the_most_similar_kept_row():
    words = vocabulary(6)
    ends = " ".join(words[:85]), " ".join(words[14:100])
    texts = [*ends, " ".join(words[5:98])]
    own = [jaccard(shingles_reference(texts[2], 5), shingles_reference(end, 5)) for end in ends]
    assert 0.8 <= own[0] < own[1]
    found = find_near_duplicates(texts, NearDedup(keep="first"))
    assert found.kept.tolist() == [True, True, False] and found.of(2) == (1, pytest.approx(own[1]))
    assert found.group.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("keep", "keys", "kept"), [("longest", None, 1), ("first", None, 0), ("best", [3, 2, 1], 2), ("earliest", "bac", 1)]
)
def test_the_rule_decides_which_row_is_kept(keep: str, keys: list[int] | None, kept: int):
    base = " ".join(vocabulary(1)[:100])
    texts = [base, base + " one more", base.upper()]
    found = find_near_duplicates(texts, kept_by(keep), keys=keys)
    assert np.flatnonzero(found.kept).tolist() == [kept]
    assert {found.of(row)[0] for row in range(3) if row != kept} == {kept}
    assert set(found.group.tolist()) == {kept}


def test_ties_of_length_are_settled_by_the_key():
    found = find_near_duplicates(["same words here", "Same words here"], NearDedup(), keys=["b", "a"])
    assert found.of(0) == (1, 1.0)


def test_texts_with_too_few_words_are_one_shingle():
    texts = [
        "three little words",
        "Three, little: words!",
        "three little",
        "",
        "",
        "?!",
        "?!",
        "!?",
        "😀",
        "words three little",
    ]
    found = find_near_duplicates(texts, NearDedup())
    repeated = {row: found.of(row)[0] for row in range(len(texts)) if not found.kept[row]}
    assert repeated == {0: 1, 4: 3, 6: 5}


def boilerplate(rows: int) -> list[str]:
    """Half of each text is the same in all: far below the threshold, and in the same buckets."""
    draw, words = random.Random(5), vocabulary(5)
    notice = " ".join(words[:30])
    return [notice + " " + " ".join(draw.choices(words, k=12)) for _ in range(rows)]


def test_work_in_huge_buckets_is_bounded_and_loses_no_equal_texts():
    texts, window = boilerplate(1500), 8
    config = NearDedup(bucket_window=window, keep="first")
    unique = sign(texts, 5, 128, 42)
    rows = np.arange(len(texts))
    assert len(candidates.propose(unique.matrix, rows, (1, 1), window)) <= 2 * window * len(texts)
    copies = [text.upper() for text in texts]
    found = find_near_duplicates(texts + copies, config)
    assert not found.kept[len(texts) :].any()
    assert all(found.of(len(texts) + row)[1] >= 0.8 for row in range(len(texts)))


def test_a_bucket_of_one_key_pairs_each_row_with_the_first_and_the_next():
    signatures = np.zeros((20, 4), dtype=np.uint32)
    pairs = {tuple(pair) for pair in propose(signatures, np.arange(20), (2, 2), 3).tolist()}
    expected = {(a, b) for a, b in itertools.combinations(range(20), 2) if a < 3 or b - a <= 3}
    assert pairs == expected


def test_small_buckets_are_compared_in_full():
    signatures = np.repeat(np.arange(5, dtype=np.uint32), 4)[:, None].repeat(6, axis=1)
    pairs = {tuple(pair) for pair in propose(signatures, np.arange(20), (2, 3), 3).tolist()}
    assert pairs == {(a, b) for a, b in itertools.combinations(range(20), 2) if a // 4 == b // 4}


def test_a_crowded_row_is_compared_with_the_first_and_the_most_alike():
    signatures = np.zeros((30, 16), dtype=np.uint32)
    signatures[:29, :4] = 1  # all are alike but for 4 values; 20 and 21 are nearer to the last
    signatures[20:22] = 0
    pairs = np.array([(a, 29) for a in range(29)] + [(0, 1), (0, 2)])
    wanted = candidates.promising(signatures, np.arange(30), pairs, 3)
    assert [tuple(pair) for pair in pairs[wanted].tolist()] == [(a, 29) for a in (0, 1, 2, 20, 21)] + [(0, 1), (0, 2)]
    assert candidates.promising(signatures, np.arange(30), pairs, 15).all()


def test_bands_follow_the_formula():
    assert bands(128, 0.8, 0.99) == (21, 6)
    assert proposed_share(0.8, *bands(128, 0.8, 0.99)) >= 0.99 > proposed_share(0.8, 128 // 7, 7)
    assert bands(16, 0.5, 0.999999) == (16, 1)


def test_parts_of_the_comparison_do_not_change_it(monkeypatch: pytest.MonkeyPatch):
    texts, _ = planted(9, originals=40)
    whole = find_near_duplicates(texts, NearDedup())
    monkeypatch.setattr(verify, "SHINGLES_AT_ONCE", 1000)
    monkeypatch.setattr("data_prep.curation.near_dedup.shingles.BATCH_CHARACTERS", 700)
    parts = find_near_duplicates(texts, NearDedup())
    assert parts.duplicate_of.tolist() == whole.duplicate_of.tolist()
    np.testing.assert_array_equal(parts.similarity, whole.similarity)


def test_containment_removes_a_row_inside_a_kept_one():
    text = " ".join(vocabulary(2)[:100])
    texts = [text, " ".join(text.split()[:70])]
    assert find_near_duplicates(texts, NearDedup()).kept.all()
    found = find_near_duplicates(texts, NearDedup(containment=0.95))
    assert found.of(1) == (0, pytest.approx(66 / 96)) and found.containment[1] == 1


def test_estimates_follow_the_exact_similarity():
    texts, pairs = planted(11, originals=100)
    matrix = sign(texts, 5, 128, 42).matrix
    errors = [
        np.mean(matrix[a] == matrix[b]) - jaccard(shingles_reference(texts[a], 5), shingles_reference(texts[b], 5))
        for a, b in pairs
    ]
    assert np.sqrt(np.mean(np.square(errors))) < 0.05


def test_sources_that_lose_too_much_raise_an_alarm():
    found = find_near_duplicates(["a b c"] * 3 + ["d e f", "g h"], NearDedup(keep="first"))
    sources = ["web", "web", "web", "books", "books"]
    assert found.loss_shares(sources) == {"web": pytest.approx(2 / 3), "books": 0}
    assert list(found.alarms(sources, 0.5)) == ["web"]


def test_no_texts_and_one_text():
    assert find_near_duplicates([], NearDedup()).duplicate_of.tolist() == []
    assert find_near_duplicates(["x"], NearDedup()).of(0) is None


def test_long_lines_and_hard_characters():
    line = "a" * 1_000_000
    marks = "a" + "\u0300\u0316" * 200_000
    texts = [line, line + "b", line.upper(), marks, marks + " b", "\0" * 1000, "\ud800 " * 1000, "\u200b" * 1000]
    found = find_near_duplicates([*texts, "שלום עולם " * 50_000, "b c " * 250_000], NearDedup(keep="first"))
    assert np.flatnonzero(~found.kept).tolist() == [2]


@pytest.mark.parametrize(
    ("keep", "keys", "message"),
    [
        ("best", None, "near_dedup.keep: best needs keys and none were given; give one per row"),
        ("best", [1], "near_dedup: 1 keys for 2 texts; give one key per text"),
        ("longest", [1.0, math.nan], "near_dedup: a key is NaN, which has no order; give a number to every row"),
        ("earliest", [1, "a"], "give keys of one sortable type"),
    ],
)
def test_unusable_keys_are_refused(keep: str, keys: list | None, message: str):
    with pytest.raises(DataError) as error:
        find_near_duplicates(["a", "b"], kept_by(keep), keys=keys)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"threshold": 0.2}, {"words": 0}, {"keep": "key"}, {"treshold": 0.8}])
def test_settings_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        NearDedup(**wrong)


def test_the_index_needs_at_most_1200_bytes_per_text():
    words = vocabulary(4)
    draw = random.Random(4)
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(10_000)]
    find_near_duplicates(texts[:10], NearDedup())
    tracemalloc.start()
    index = sign(texts, 5, 128, 42)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / len(texts) <= 1200 and len(index.matrix) == len(texts)


def test_decisions_equal_datasketch_with_exact_verification():
    datasketch = pytest.importorskip("datasketch")
    texts, _ = planted(21, originals=80)
    shingles = [shingles_reference(text, 5) for text in texts]
    lsh = datasketch.MinHashLSH(num_perm=128, params=(21, 6))
    hashes = [datasketch.MinHash(128) for _ in texts]
    for row, (minhash, own) in enumerate(zip(hashes, shingles, strict=True)):
        minhash.update_batch([" ".join(each).encode() for each in own])
        lsh.insert(row, minhash)
    pairs = {(a, b) for b, each in enumerate(hashes) for a in lsh.query(each) if a < b}
    close = {b for a, b in pairs if jaccard(shingles[a], shingles[b]) >= 0.8}
    found = find_near_duplicates(texts, NearDedup(keep="first"))
    assert set(np.flatnonzero(~found.kept).tolist()) == close

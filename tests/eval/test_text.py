"""ROUGE against rouge-score, BLEU and chrF against sacrebleu."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from data_prep.errors import DataError
from eval.measures import text

OUTPUTS = [
    "The cats were running home.\nAll of them!",
    "",
    "A dog",
    "don't stop, it's 3.5 km\nof road",
    "über Käse 北京",
]
REFERENCES = [
    "The cat ran home.\nAll of it.",
    "Nothing was said.",
    "A dog",
    "do not stop: 3.5 km of roads",
    "viel Käse",
]

words = st.lists(
    st.sampled_from(["the", "Cats", "running", "run", "cats", "cat", "home.", "a", "3.5", "don't", "ça", "\n"]),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(words, words)
def test_ascii_references_score_exactly_as_rouge_score(output: list[str], reference: list[str]) -> None:
    reference = [word for word in reference if word.isascii()] + ["end"]
    pair = " ".join(output), " ".join(reference)
    expected = RougeScorer(list(text.ROUGE), use_stemmer=True).score(pair[1], pair[0])
    assert text.score_texts([pair[0]], [pair[1]]) == [{name: score.fmeasure for name, score in expected.items()}]


def test_curly_quotes_do_not_change_the_tokenizer() -> None:
    assert text.has_ascii_words("“It’s” – fine…")
    assert not text.has_ascii_words("Käse")


def test_lsum_is_split_at_newlines() -> None:
    row = text.score_texts(["b c\na d"], ["a d\nb c"])[0]
    assert row["rougeLsum"] == 1.0
    assert row["rougeL"] == 0.5


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Käse, über alles", ["käse", "über", "all"]),
        ("北京的river", ["北", "京", "的", "river"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Привет_мир 2", ["привет", "мир", "2"]),
        ("かな カナ", ["か", "な", "カ", "ナ"]),
        ("Cafe\u0301", ["café"]),
    ],
)
def test_unicode_words(written: str, expected: list[str]) -> None:
    assert text.UnicodeTokenizer().tokenize(written) == expected


def test_other_scripts_score_where_rouge_score_gives_nothing() -> None:
    assert RougeScorer(["rouge1"]).score("北京的河", "北京的河")["rouge1"].fmeasure == 0
    assert text.score_texts(["北京的河"], ["北京的河"])[0]["rouge1"] == 1.0


def test_bleu_and_chrf_equal_sacrebleu() -> None:
    for count in range(1, len(OUTPUTS) + 1):
        outputs, references = OUTPUTS[:count], REFERENCES[:count]
        bleu = text.bleu_from_counts(text.bleu_counts(outputs, references).sum(axis=0))
        chrf = text.chrf_from_counts(text.chrf_counts(outputs, references).sum(axis=0))
        assert bleu == pytest.approx(BLEU().corpus_score(outputs, [references]).score, abs=1e-10)
        assert chrf == pytest.approx(CHRF().corpus_score(outputs, [references]).score, abs=1e-10)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_scores_of_many_resamples_equal_sacrebleu(pairs: list[tuple[list[str], list[str]]]) -> None:
    outputs, references = [" ".join(pair[0]) for pair in pairs], [" ".join([*pair[1], "x"]) for pair in pairs]
    picks = [[0] * len(pairs), list(range(len(pairs))), [len(pairs) - 1]]
    bleu, chrf = text.bleu_counts(outputs, references), text.chrf_counts(outputs, references)
    sums = [np.array([counts[pick].sum(axis=0) for pick in picks]) for counts in (bleu, chrf)]
    for row, pick in enumerate(picks):
        resampled = [outputs[i] for i in pick], [[references[i] for i in pick]]
        assert text.bleu_from_counts(sums[0])[row] == pytest.approx(BLEU().corpus_score(*resampled).score, abs=1e-9)
        assert text.chrf_from_counts(sums[1])[row] == pytest.approx(CHRF().corpus_score(*resampled).score, abs=1e-9)


def test_signatures_and_policy() -> None:
    assert text.bleu_signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert text.chrf_signature().startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert "Porter stemmer, rougeLsum split at newlines; Unicode words where the reference has" in text.rouge_policy()


def test_missing_references_are_refused() -> None:
    with pytest.raises(DataError, match="reference 1: missing or empty; drop the row"):
        text.score_texts(["a", "b"], ["a", "  "])
    with pytest.raises(DataError, match="outputs: 1 for 2 references; give one reference for each"):
        text.bleu_counts(["a"], ["a", "b"])
    with pytest.raises(DataError, match="outputs: none; score at least one row"):
        text.chrf_counts([], [])

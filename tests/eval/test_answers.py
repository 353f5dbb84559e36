"""Short answers and variety against scikit-learn, lm-evaluation-harness's SQuAD code, and values worked out by hand."""

import os
import random
import re
import string
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.choice.items import read_table
from eval.measures.answers import (
    accuracy,
    exact_match,
    extract_number,
    macro_f1,
    normalise,
    same_number,
    self_consistency,
    token_f1,
)
from eval.measures.repetition import distinct_n, repetition_columns, repetition_rate, variety, words

EXTRA = os.environ.get("PROVETUNE_EXTRA_DATA")
ASCII = st.text(st.sampled_from(string.ascii_letters + string.digits + string.punctuation + "   \n"), max_size=30)
PHRASES = st.lists(st.sampled_from(["the", "a", "An", "mill", "runs", "Mill.", "don't", "U.S.", "42"]), max_size=6)


@settings(deadline=None)  # the first call imports
@given(st.one_of(ASCII, PHRASES.map(" ".join)), st.one_of(ASCII, PHRASES.map(" ".join)))
def test_squad_scores_equal_the_official_code(output: str, reference: str) -> None:
    """lm-evaluation-harness carries SQuAD v1.1's functions in its task qasper."""
    from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer

    assert normalise(output) == normalize_answer(output)
    assert exact_match(output, [reference]) == float(normalize_answer(output) == normalize_answer(reference))
    if normalise(output) and normalise(reference):
        assert token_f1(output, [reference]) == pytest.approx(f1_abstractive([output], [reference]))


@pytest.mark.parametrize(
    ("output", "reference"),
    [("«Käse», bitte!", "Käse bitte"), ("“The” river…", "river"), ("¿Qué?", "qué"), ("im Fluß", "am Fluß")],
)
def test_other_scripts_equal_the_multilingual_code(output: str, reference: str) -> None:
    from lm_eval.tasks.tydiqa.utils import normalize_answer

    assert normalise(output) == normalize_answer(output, "en")
    assert exact_match(output, [reference]) == float(
        normalize_answer(output, "en") == normalize_answer(reference, "en")
    )


def test_words_without_spaces_overlap_by_character() -> None:
    assert token_f1("北京大学", ["北京"]) == pytest.approx(2 * 2 / (4 + 2))
    assert exact_match("北京。", ["北京"]) == 1.0
    assert token_f1("นก", ["นก"]) == 1.0


def test_the_best_reference_counts() -> None:
    assert exact_match("The mill!", ["river", "mill"]) == 1.0
    assert token_f1("old mill", ["river", "the old mill runs"]) == pytest.approx(2 * 2 / (2 + 3))
    assert token_f1("", [""]) == 1.0 and token_f1("", ["mill"]) == 0.0
    with pytest.raises(DataError, match="references: none for an answer; drop the row"):
        exact_match("a", [])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_labels_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    predicted, gold = [one for one, _ in pairs], [other for _, other in pairs]
    assert accuracy(predicted, gold) == pytest.approx(accuracy_score(gold, predicted))
    assert macro_f1(predicted, gold) == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))


def test_an_unreadable_label_is_wrong_and_no_label() -> None:
    assert accuracy([None, "a"], ["a", "a"]) == 0.5
    assert macro_f1([None, "a"], ["a", "a"]) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="labels: 1 predicted for 2 right ones; give one for each, at least 1"):
        accuracy(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("so 6*7=42\n#### 42", 42),
        ("#### -1,234.50", Fraction("-1234.5")),
        ("The answer is 42.", 42),
        ("The answer is $1,234.50 per year, for 3 years.", Fraction("1234.5")),
        ("the answer is: -$5", -5),
        ("The answer is 3/4.", Fraction(3, 4)),
        ("Answer: 12.5%", Fraction("12.5")),
        ("\\boxed{\\frac{1}{2}}", Fraction(1, 2)),
        ("It is \\boxed{17} apples, not 18", 17),
        ("I have 3 apples and 4 pears, so 7", 7),
        ("The answer is 1. No, the answer is 2.", 2),
        ("The answer is 645 - 567 = 78 cats and 27 dogs.\n\nSo, there are 2.", 78),
        ("The answer is 2 * 2 * 3 = 4 * 3 = 12.", 12),
        ("The answer is 16 * 11 =", 16),
        ("The answer is 8. Check: 3 + 5 = 9", 8),
        ("#### 3 + 4 = 7", 7),
        ("\\boxed{x = 17}", 17),
        ("The answer is 1.5 + 2.25 = 3.75", Fraction("3.75")),
        ("1.5e3 meters", 1500),
        ("\u22127 degrees", -7),
        ("５ cats", 5),
        ("from 10-12", 12),
        (".5", Fraction(1, 2)),
        ("1,23", 23),
        ("1/0", None),
        ("none at all", None),
        ("", None),
        ("the answer is unclear, maybe 4", 4),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction | None) -> None:
    assert extract_number(text) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_written_numbers_are_read_back(number: object) -> None:
    assert extract_number(f"The answer is {number:,}.") == Fraction(str(number))
    assert same_number(f"{number:,}", f"#### {number}") == 1.0


@given(st.text(max_size=80))
def test_no_text_breaks_the_extractor(text: str) -> None:
    found = extract_number(text)
    assert found is None or isinstance(found, Fraction)


def test_a_reference_without_a_number_is_named() -> None:
    with pytest.raises(DataError, match="reference 'none': states no number; drop the row or correct it"):
        same_number("4", "none")


@pytest.mark.skipif(not EXTRA, reason="PROVETUNE_EXTRA_DATA is not set")
def test_gsm8k_answers_equal_lm_evals_strict_match() -> None:
    rows = read_table(Path(str(EXTRA)) / "gsm8k_test.jsonl")
    pattern = re.compile(r"#### (\-?[0-9\.\,]+)")  # of lm-evaluation-harness's gsm8k.yaml
    for row in rows:
        found = pattern.search(row["answer"])
        assert found and extract_number(row["answer"]) == Fraction(found[1].replace(",", ""))
    assert len(rows) == 1319


def test_the_vote() -> None:
    assert self_consistency([3, None, 4, 4]) == 4
    assert self_consistency([3, 4, 4, 3]) == 3
    assert self_consistency([None, None]) is None
    assert self_consistency([extract_number(text) for text in ("#### 7", "so 7", "8")]) == 7


def test_words_of_every_script() -> None:
    assert words("Don't stop, O’Neill!") == ["don't", "stop", "o’neill"]
    assert words("Käse für 3 Öre") == ["käse", "für", "3", "öre"]
    assert words("東京に行く") == list("東京に行く")
    assert words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert words("สวัสดี") == ["ส", "วั", "ส", "ดี"]
    assert words("Привет, мир 123") == ["привет", "мир", "123"]


def test_variety_by_hand() -> None:
    texts = ["a b a b a b", "c"]
    assert distinct_n(texts, 1) == pytest.approx(3 / 7)
    assert distinct_n(texts, 2) == pytest.approx(2 / 5)
    assert repetition_rate(texts[0], 2) == pytest.approx(1 - 2 / 5)
    assert repetition_rate("a b c d", 4) == repetition_rate("", 4) == 0.0
    assert distinct_n(["", "a"], 2) != distinct_n(["", "a"], 2)  # NaN: no text has two words
    told = variety([*texts, " "], 2)
    assert told["words"] == pytest.approx(7 / 3) and told["empty"] == pytest.approx(1 / 3)
    assert told["repetition"] == pytest.approx(3 / 5)
    assert repetition_columns(texts, 2).sum(axis=0).tolist() == [3, 5, 7, 12, 0, 2]
    with pytest.raises(DataError, match="n-grams: n is 0; allowed are 1 and more"):
        distinct_n(texts, 0)
    with pytest.raises(DataError, match="texts: none; measure at least one"):
        variety([])


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), min_size=1, max_size=5), st.integers(1, 4)
)
def test_repetition_stays_within_bounds_and_ignores_order(texts: list[str], n: int) -> None:
    shuffled = random.Random(0).sample(texts, len(texts))
    for text in texts:
        assert 0 <= repetition_rate(text, n) < 1
        assert repetition_rate(f"{text} {text}", n) >= repetition_rate(text, n) - 1e-9 or len(words(text)) < n
    one, other = distinct_n(texts, n), distinct_n(shuffled, n)
    assert one == other or one != one

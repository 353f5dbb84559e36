"""The n-gram yardstick: a probability of every text, by an independent formula."""

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.config import NgramConfig
from eval.ngram import NgramModel, baseline_value, score_with_ngrams, write_baseline


def witten_bell(training: bytes, context: bytes, byte: int) -> Fraction:
    """The textbook recursion over raw positions, in exact fractions."""
    lower = witten_bell(training, context[1:], byte) if context else Fraction(1, 256)
    after = [training[at] for at in range(len(context), len(training)) if training[at - len(context) : at] == context]
    if not after:
        return lower
    kinds = len(set(after))
    return (after.count(byte) + kinds * lower) / (len(after) + kinds)


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_it_is_witten_bell(training: bytes, text: bytes, order: int) -> None:
    model = NgramModel(order)
    model.count(training)
    expected = [witten_bell(training, text[max(0, at - order + 1) : at], text[at]) for at in range(len(text))]
    assert model.nll(text) == pytest.approx(-sum(math.log(p) for p in expected))


@given(st.binary(max_size=40), st.binary(max_size=6), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_probabilities_of_the_next_byte_sum_to_one(training: bytes, context: bytes, order: int) -> None:
    model = NgramModel(order)
    model.count(training)
    assert sum(math.exp(-model.nll(bytes([byte]), context)) for byte in range(256)) == pytest.approx(1)


def rows(folder: Path, split: str, texts: list[str]) -> None:
    lines = [json.dumps({"id": f"{split}{n}", "source": "t", "text": text}) for n, text in enumerate(texts)]
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_text_like_the_training_text_costs_less(tmp_path: Path) -> None:
    rows(tmp_path, "train", ["the old mill by the river", "the river runs past the mill"] * 20)
    rows(tmp_path, "test", ["the mill by the old river", "Käse qqq zzz XXX 0123456789"])
    found = score_with_ngrams(tmp_path, NgramConfig(), None)
    bits = {row["id"]: row["nll"] / row["bytes"] / math.log(2) for row in found}
    assert bits["test0"] < 1.5 < 4 < bits["test1"] and {row["bytes"] for row in found} == {25, 28}
    write_baseline(tmp_path / "out", found)
    assert baseline_value(tmp_path / "out", {"test0"}) == pytest.approx(bits["test0"])
    assert baseline_value(tmp_path / "out", {"gone"}) is None
    assert len(score_with_ngrams(tmp_path, NgramConfig(), 1)) == 1
    few = {row["id"]: row["nll"] for row in score_with_ngrams(tmp_path, NgramConfig(max_bytes=10), None)}
    assert few["test0"] > 2 * next(row["nll"] for row in found if row["id"] == "test0")


def test_answers_are_scored_after_their_prompts(tmp_path: Path) -> None:
    line = {"id": "a", "source": "t", "prompt": "2 + 2 =", "completion": "4"}
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    [row] = score_with_ngrams(tmp_path, NgramConfig(order=3), None)
    assert row["bytes"] == 1 and row["nll"] < math.log(4)


def test_without_training_rows_there_is_no_yardstick(tmp_path: Path) -> None:
    rows(tmp_path, "test", ["x"])
    with pytest.raises(DataError, match=r"no training rows to count n-grams of; set baseline: null"):
        score_with_ngrams(tmp_path, NgramConfig(), None)

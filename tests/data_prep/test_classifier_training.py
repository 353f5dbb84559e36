"""`train-quality` learns from files of every kind, never tests on what it has seen, and refuses bad input clearly."""

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from data_prep.curation.classifiers.config import TrainQuality
from data_prep.curation.classifiers.examples import read_examples, share_of
from data_prep.curation.classifiers.linear import CARD, WEIGHTS, load_linear
from data_prep.curation.classifiers.train import train_quality
from data_prep.errors import DataError

GOOD = ["careful", "evidence", "theorem", "measured", "results", "method", "chapter", "history", "explains"]
BAD = ["click", "buy", "cheap", "casino", "winner", "free", "discount", "subscribe", "login", "offer", "now"]


def texts_of(words: list[str], count: int, seed: int) -> list[str]:
    choose = random.Random(seed)
    return [" ".join(choose.choices(words + ["the", "of", "and"], k=12)) + f" {number}" for number in range(count)]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    good = jsonl(tmp_path / "good.jsonl", [{"text": text} for text in texts_of(GOOD, 300, 1)])
    path = tmp_path / "bad.txt.gz"
    path.write_bytes(gzip.compress("\n".join(texts_of(BAD, 300, 2)).encode()))
    return good, str(path)


def small(**settings: Any) -> TrainQuality:
    return TrainQuality(**({"bits": 12, "held_out": 0.2} | settings))


def test_what_is_trained_tells_the_classes_apart_with_the_same_bytes(files: tuple[str, str], tmp_path: Path) -> None:
    config = small(positive=[files[0]], negative=[files[1]])
    card = train_quality(config, tmp_path / "a")
    train_quality(config, tmp_path / "b")
    for name in (CARD, WEIGHTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert card["held_out"]["auc"] > 0.99 and card["held_out"]["low"] <= card["held_out"]["auc"]
    assert sum(part["all"] for part in card["training"]["rows"].values()) == 600
    assert set(card["training"]["files"]) == {"good.jsonl", "bad.txt.gz"}
    assert len(card["held_out"]["thresholds"]) == 9
    good, bad = load_linear(tmp_path / "a").scores(["measured evidence explains the method", "click now cheap casino"])
    assert good > 0.8 and bad < 0.2  # pyright: ignore


def test_labels_without_meaning_give_no_auc(tmp_path: Path) -> None:
    texts = texts_of(GOOD, 800, 5)
    rows = [{"text": text, "label": int(random.Random(text).random() < 0.5)} for text in texts]
    card = train_quality(small(labelled=[jsonl(tmp_path / "rows.jsonl", rows)]), tmp_path / "out")
    assert 0.3 < card["held_out"]["auc"] < 0.7, "held-out texts must not have been trained on"


def test_every_kind_of_file_and_label_is_read(tmp_path: Path) -> None:
    good, bad = texts_of(GOOD, 8, 1), texts_of(BAD, 8, 2)
    labels: list[Any] = [1, "1", True, "true", "TRUE", 1.0, "keep", "Keep"]
    others: list[Any] = [0, "0", False, "false", "False", 0.0, "drop", "DROP"]
    pairs = list(zip(good + bad, labels + others, strict=True))
    source = jsonl(tmp_path / "a.jsonl", [{"content": text, "class": label} for text, label in pairs])
    found = read_examples([], [], [source], "content", "class", ("drop", "keep"))
    assert {text: label for text, label in zip(found.texts, found.labels, strict=True)} == dict.fromkeys(
        good, True
    ) | dict.fromkeys(bad, False)
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], ["fine text", "1"], ["foul text", "0"]])
    parquet.write_table(pa.table({"text": ["third", "fourth"], "label": [True, False]}), tmp_path / "c.parquet")
    found = read_examples([], [], [str(tmp_path / "b.csv"), str(tmp_path / "c.parquet")], "text", "label", ("a", "b"))
    assert sum(found.labels) == 2 and len(found.texts) == 4


def test_equal_texts_stay_on_one_side_and_contradictions_are_left_out(tmp_path: Path) -> None:
    good = jsonl(tmp_path / "g.jsonl", [{"text": text} for text in ("One", "one ", " ONE", "both", "  ", "solo")])
    bad = jsonl(tmp_path / "b.jsonl", [{"text": text} for text in ("Both", "two")])
    found = read_examples([good], [bad], [], "text", "label", ("low", "high"))
    assert found.left_out == {"empty": 1, "repeated": 2, "contradictory": 1}
    assert sorted(found.texts) == ["One", "solo", "two"]
    assert share_of("One  Text", 3) == share_of("one text", 3) != share_of("one text", 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": 1}, {"text": "b", "label": 1}], "no text of the class low .2 texts, 0 empty"),
        ([{"text": "a", "label": 0}], "no text of the class high"),
        ([{"text": " ", "label": 1}, {"text": "b", "label": 0}], "no text of the class high .1 texts, 1 empty"),
        ([{"text": "a", "label": 2}], r"a.jsonl:1: label is '2', allowed are 0, 1, false, true, low, high"),
        ([{"text": "a", "label": None}], "label is 'None', allowed are"),
        ([{"text": "a"}], r"a.jsonl:1: no column label \(it has text\); name it with label_column"),
        ([{"body": "a", "label": 1}], r"no column text \(it has body, label\); name it with text_column"),
        ([{"text": 5, "label": 1}], "text is no text but int; take the row out"),
    ],
)
def test_bad_rows_are_refused_in_one_line(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=message) as caught:
        train_quality(small(labelled=[source]), tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_too_few_texts_and_broken_files_are_refused(tmp_path: Path) -> None:
    good = jsonl(tmp_path / "g.jsonl", [{"text": text} for text in texts_of(GOOD, 20, 1)])
    bad = jsonl(tmp_path / "b.jsonl", [{"text": text} for text in texts_of(BAD, 20, 1)])
    with pytest.raises(DataError, match="texts of one class in the .* part, at least 10; add texts, or raise held_out"):
        train_quality(small(positive=[good], negative=[bad]), tmp_path / "out")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n{"text"')
    with pytest.raises(DataError, match="b.jsonl:2: broken JSON .*; take the row out"):
        train_quality(small(positive=[good], negative=[bad]), tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        train_quality(small(positive=[good], negative=[str(tmp_path / "none.jsonl")]), tmp_path / "out")


def test_the_configuration_refuses_one_sided_input() -> None:
    with pytest.raises(ValidationError, match="give files in positive and negative, or in labelled"):
        TrainQuality(positive=["a.jsonl"])
    with pytest.raises(ValidationError, match="both classes are called 'Good'; name two"):
        TrainQuality(labelled=["a.jsonl"], labels=["Good", "good"])

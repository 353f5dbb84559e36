"""An evaluation that is added after training is told which of its items the training data holds."""

import json
import random
from pathlib import Path

import pytest

from data_prep.curation.decontamination import overlap as module
from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.overlap import overlap
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import document, folder_of, hosts, questions


def training(held: list[Row]) -> list[Row]:
    draw = random.Random(7)
    rows: list[Row] = [{"id": f"h{n}", "text": text} for n, text in enumerate(hosts(7, 60))]
    rows += [{"id": f"l{n}", "text": f"{document(draw, 2)}\n{row['prompt']}"} for n, row in enumerate(held)]
    return sorted(rows, key=lambda row: row["id"])


def test_the_contaminated_items_and_the_rows_that_hold_them(tmp_path: Path) -> None:
    items = questions(7)
    web = folder_of(training(items[:9]), tmp_path / "web", "train")
    found = overlap({"web": web}, {"quiz": folder_of(items, tmp_path / "quiz")}, Decontamination())
    assert sorted(each["id"] for each in found.contaminated) == sorted(row["id"] for row in items[:9])
    assert all(each["row"] == f"l{int(each['id'][1:])}" and each["row_dataset"] == "web" for each in found.contaminated)
    assert {each["share"] for each in found.contaminated} == {1.0}
    assert found.numbers == {
        "quiz": {"items": 120, "units": 120, "words": found.numbers["quiz"]["words"], "too_short": 0, "boilerplate": 0}
        | {"contaminated": 9}
    }
    assert found.rows == 69


def test_what_is_written(tmp_path: Path) -> None:
    items = questions(8)
    web = folder_of(training(items[:3]), tmp_path / "web", "train")
    overlap({"web": web}, {"quiz": folder_of(items, tmp_path / "quiz")}, Decontamination()).write(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "contaminated.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["q0", "q1", "q2"] and lines[0]["text"] in items[0]["prompt"]
    summary = json.loads((tmp_path / "out" / "overlap.json").read_text())
    assert summary["training_rows"] == 63 and summary["evaluations"]["quiz"]["contaminated"] == 3


def test_the_result_does_not_depend_on_how_the_rows_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = questions(9)
    rows = training(items[:20] * 3)
    folders = {name: folder_of(part, tmp_path / name, "train") for name, part in (("a", rows[::2]), ("b", rows[1::2]))}
    quiz = {"quiz": folder_of(items, tmp_path / "quiz")}
    whole = overlap(folders, quiz, Decontamination())
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    assert overlap(dict(reversed(folders.items())), quiz, Decontamination()) == whole


def test_validation_and_test_rows_are_not_trained_on(tmp_path: Path) -> None:
    items = questions(10)
    web = folder_of(training(items[:5]), tmp_path / "web", "validation")
    assert overlap({"web": web}, {"quiz": folder_of(items, tmp_path / "quiz")}, Decontamination()).contaminated == []


def test_the_row_that_holds_most_is_named(tmp_path: Path) -> None:
    item = {"id": "long", "source": "s", "text": document(random.Random(1), 8)}
    words = item["text"].split()
    rows: list[Row] = [{"id": f"a{n}", "text": " ".join(words[: -5 - n])} for n in range(8)]
    rows.append({"id": "z", "text": " ".join(words[:-1])})
    web = {"web": folder_of(rows, tmp_path / "web", "train")}
    found = overlap(web, {"quiz": folder_of([item], tmp_path / "quiz")}, Decontamination())
    assert [each["row"] for each in found.contaminated] == ["z"]

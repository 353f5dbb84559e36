"""N-grams that many rows or items have say nothing; rows that hold whole items say something, however many they are."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.index import build_index
from data_prep.curation.decontamination.step import DecontaminationStep
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import document, folder_of, hosts, sentence

QUOTATION = (
    "Four score and seven years ago our fathers brought forth on this continent a new nation conceived in liberty and "
    "dedicated to the proposition that all men are created equal"
)
QUOTING = f"Which president of the United States began a famous speech with the words: {QUOTATION}?"


def dropped(step: DecontaminationStep, texts: list[str], shards: int = 1) -> list[bool]:
    from data_prep.curation.decontamination.counts import merge

    tables, counts = [], []
    for shard in range(shards):
        rows: list[Row] = [{"id": str(n), "text": text} for n, text in enumerate(texts)][shard::shards]
        measured, counted = step.measure_and_count(rows)
        tables.append(pa.table({name: pa.array(measured[name], kind) for name, kind in step.columns().items()}))
        counts.append(counted)
    merged = merge(counts)
    found = [step.reasons(step.settle(table, merged)) for table in tables]
    return [bool(found[n % shards][n // shards]) for n in range(len(texts))]


@pytest.fixture
def step(tmp_path: Path) -> DecontaminationStep:
    rows = [{"id": "gettysburg", "source": "s", "prompt": QUOTING, "completion": "Lincoln"}]
    build_index({"history": folder_of(rows, tmp_path / "history")}, Decontamination(), tmp_path / "index")
    # The quotation is 0.7 of the item.
    return DecontaminationStep(Decontamination(max_share=0.6), tmp_path / "index")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_quotation_in_many_rows_is_boilerplate_and_the_item_is_still_found(
    step: DecontaminationStep, shards: int
) -> None:
    draw = random.Random(2)
    quoting = [f"{document(draw, 3)} As Lincoln said: “{QUOTATION}.” {document(draw, 2)}" for _ in range(30)]
    found = dropped(step, [*quoting, f"{document(draw, 3)}\n\n{QUOTING}\n", *hosts(1, 50)], shards)
    assert found == [False] * 30 + [True] + [False] * 50
    # In few rows it may be a leak of the better part of the item.
    assert dropped(step, quoting[:5]) == [True] * 5


def test_an_item_that_was_copied_many_times_does_not_become_boilerplate(step: DecontaminationStep) -> None:
    draw = random.Random(3)
    leaks = [f"{document(draw, 2)}\n{QUOTING.lower()}\n{document(draw, 1)}" for _ in range(60)]
    assert dropped(step, leaks + hosts(2, 20)) == [True] * 60 + [False] * 20


def test_what_many_items_share_is_no_evidence(tmp_path: Path) -> None:
    draw = random.Random(4)
    licence = sentence(draw, 60)
    rows = [
        {"id": str(n), "source": "s", "text": f"{sentence(draw, 5)} {licence} {sentence(draw, 25)}"} for n in range(40)
    ]
    rows.append({"id": "only", "source": "s", "text": f"{sentence(draw, 9)[:-1]} {licence}"})
    build_index({"code": folder_of(rows, tmp_path / "code")}, Decontamination(), tmp_path / "index")
    step = DecontaminationStep(Decontamination(), tmp_path / "index")
    texts = [f"{document(draw, 2)} {licence} {document(draw, 2)}", rows[7]["text"], rows[-1]["text"]]
    assert dropped(step, texts) == [False, True, True]
    strict = Decontamination(min_documents=100, max_item_share=1.0)
    build_index({"code": tmp_path / "code"}, strict, tmp_path / "all")
    assert dropped(DecontaminationStep(strict, tmp_path / "all"), texts) == [True, True, True]


def test_a_threshold_of_boilerplate_needs_no_new_measures(step: DecontaminationStep, tmp_path: Path) -> None:
    draw = random.Random(5)
    rows: list[Row] = [{"id": str(n), "text": f"{document(draw, 3)} {QUOTATION}"} for n in range(30)]
    measured, counts = step.measure_and_count(rows)
    table = pa.table({name: pa.array(measured[name], kind) for name, kind in step.columns().items()})
    assert not any(step.reasons(step.settle(table, counts)))
    lenient = DecontaminationStep(Decontamination(max_document_share=1.0, max_share=0.6), tmp_path / "index")
    assert all(lenient.reasons(lenient.settle(table, counts)))


def test_the_borders_of_boilerplate_are_boilerplate(tmp_path: Path) -> None:
    """Of “Who said: …” only two words are the item's own; n-grams across the border must not make them six."""
    draw = random.Random(6)
    item = {"id": "who", "source": "s", "prompt": f"Who said: {QUOTATION}", "completion": "Lincoln"}
    build_index({"history": folder_of([item], tmp_path / "history")}, Decontamination(), tmp_path / "index")
    step = DecontaminationStep(Decontamination(max_share=0.5), tmp_path / "index")
    quoting = [f"{document(draw, 3)} “{QUOTATION}.” {document(draw, 2)}" for _ in range(30)]
    assert dropped(step, [*quoting, f"{document(draw, 3)} {item['prompt']}."]) == [False] * 30 + [True]

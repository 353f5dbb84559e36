"""Multiple choice becomes preferences."""

import json
import os
from pathlib import Path

import pytest

from data_prep.config import DatasetConfig
from data_prep.formats import choose_adapter
from data_prep.load import load
from data_prep.rows import read_rows
from data_prep.templates import BrokenRow


def adapt(row: dict, **settings: object) -> list[dict]:
    adapter = choose_adapter("d", DatasetConfig.model_validate({"source": "x", **settings}), list(row), list(row))
    assert adapter.format.name == "choice_preference"
    return adapter.adapt(adapter.view(row))


@pytest.mark.parametrize(
    "row",
    [
        {"goal": "q", "sol1": "one", "sol2": "two", "label": 1},  # PIQA
        {"goal": "q", "sol1": "one", "sol2": "two", "label": "1"},
        {"query": "q", "choices": ["one", "two"], "gold": 1},  # LLM-Foundry
        {"question": "q", "choices": ["one", "two"], "answer": 1, "subject": "s"},  # MMLU
        {"question": "q", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "B"},  # ARC
        {"question": "q", "choices": {"text": ["one", "two"], "label": ["1", "2"]}, "answerKey": "2"},
        {"question": "q", "options": "A. one\nB. two", "answer": "B. two"},
        {"question": "q", "options": "\nA) one\nB) two", "answer": "B"},
        {"question": "q", "options": ["one", "two"], "answer": "two"},
        {"question": "q", "choices": ["two", "one"], "answer": "0"},
        {"ctx": "q", "endings": ["one", "two"], "label": "1"},  # HellaSwag
    ],
)
def test_the_right_choice_is_chosen(row: dict) -> None:
    assert adapt(row) == [{"prompt": "q", "chosen": "two", "rejected": "one"}]


def test_every_wrong_choice_is_a_row_or_one_that_the_seed_picks() -> None:
    row = {"question": "q", "choices": ["right", "w1", "w2", "w3", "w1"], "answer": 0}
    assert [(made["chosen"], made["rejected"]) for made in adapt(row)] == [("right", f"w{n}") for n in (1, 2, 3)]
    picked = {seed: adapt(row, wrong="one", splits={"seed": seed}) for seed in range(30)}
    assert all(len(rows) == 1 for rows in picked.values())
    assert {rows[0]["rejected"] for rows in picked.values()} == {"w1", "w2", "w3"}
    assert picked[3] == adapt(row, wrong="one", splits={"seed": 3})


def test_choices_that_are_numbers_are_not_taken_for_answers() -> None:
    numbers = ["3", "2", "0", "1"]
    chosen = {
        name: adapt({"question": "q", "choices": numbers, name: answer})[0]["chosen"]
        for name, answer in (("answer", 1), ("answerKey", "1"))
    }
    assert chosen == {"answer": "2", "answerKey": "2"}
    assert adapt({"question": "q", "choices": numbers, "answer": "1"})[0]["chosen"] == "1"


def test_a_template_and_mapped_columns_are_used() -> None:
    row = {"ask": "q", "choices": ["one", "two"], "answer": 0}
    made = adapt(row, columns={"question": "ask"}, prompt="Question: {ask}\nAnswer:")
    assert made[0]["prompt"] == "Question: q\nAnswer:"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": -1}, "answer is -1, which names none of the 2 choices"),
        ({"answer": 2}, "answer is 2, which names none"),
        ({"answer": "E"}, "answer is 'E', which names none"),
        ({"answer": None}, "answer is None, which names none"),
        ({"choices": ["one"]}, "choices does not hold two or more texts"),
        ({"choices": ["one", " "]}, "choices does not hold two or more texts"),
        ({"choices": 3}, "choices is a number, not a list of texts"),
        ({"choices": ["one", 2]}, "choices is a list, not a list of texts"),
        ({"choices": ["one", "one"]}, "choices holds no wrong choice"),
        ({"question": None}, "question is null, not text"),
    ],
)
def test_a_row_without_a_right_choice_is_broken(change: dict, reason: str) -> None:
    with pytest.raises(BrokenRow) as caught:
        adapt({"question": "q", "choices": ["one", "two"], "answer": 0, **change})
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(("name", "rows"), [("piqa.jsonl", 1838), ("arc_easy.jsonl", 7121)])
def test_real_choices_load(tmp_path: Path, name: str, rows: int) -> None:
    folder = os.environ.get("PROVETUNE_EXTRA_DATA")
    if folder is None:
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    path = Path(folder) / name
    stats = load("real", DatasetConfig(source=str(path), role="eval"), tmp_path / "out", None)
    assert (stats["rows"], stats["broken"]) == (rows, 0)
    right = {(row["query"], row["choices"][row["gold"]]) for row in map(json.loads, path.open())}
    assert {(row["prompt"], row["chosen"]) for row in read_rows(tmp_path / "out", "test")} == right

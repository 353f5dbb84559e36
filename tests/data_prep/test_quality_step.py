"""The quality rules as a step: off for everything but text unless asked for."""

from typing import Any

import pyarrow as pa
import pytest
from test_quality_reference import PROSE, only

from data_prep.curation.quality.config import C4, GopherQuality, Quality
from data_prep.curation.quality.step import QualityStep
from data_prep.curation.step import Step

CHAT = {
    "id": "chat", "source": "s",
    "messages": [
        {"role": "user", "content": "How do I print a dictionary in Python?"},
        {"role": "assistant", "content": "Sure! Here you go:\n```python\nprint({1: 2})\n```"},
    ],
}  # fmt: skip
CODE = {
    "id": "code", "source": "s", "prompt": "Write a function that adds two numbers.",
    "completion": "def add(a: int, b: int) -> int:\n    return a + b\n\nassert add(1, 2) == 3",
}  # fmt: skip
MATHS = {
    "id": "maths", "source": "s", "prompt": "Janet has 16 eggs, eats 3 and bakes with 4. How many are left?",
    "chosen": "Janet has 16 - 3 - 4 = <<16-3-4=9>>9 eggs left.\n#### 9", "rejected": "#### 12",
}  # fmt: skip
TEXT = {"id": "text", "source": "s", "text": f"{PROSE}\n{PROSE.replace('e', 'o')}"}
EMPTY = {"id": "empty", "source": "s", "text": ""}
ROWS: list[dict[str, Any]] = [CHAT, TEXT, CODE, EMPTY, MATHS]


def table_of(step: Step, rows: list[dict[str, Any]]) -> pa.Table:
    """The measures as the engine stores them."""
    found = step.measure(rows)
    assert list(found) == list(step.columns())
    return pa.table({name: pa.array(found[name], kind) for name, kind in step.columns().items()})


def test_chat_code_and_mathematics_are_never_judged_by_default() -> None:
    step = QualityStep(Quality())
    table = table_of(step, ROWS)
    assert [set(row.values()) == {None} for row in table.to_pylist()] == [True, False, True, False, True]
    reasons = step.reasons(table)
    assert reasons[0] == reasons[2] == reasons[4] == []
    assert reasons[3][0] == "gopher_min_words: 0, at least 50"


@pytest.mark.parametrize("row", [CHAT, CODE, MATHS], ids=lambda row: row["id"])
@pytest.mark.parametrize("family", ["gopher_quality", "c4", "fineweb"])
def test_good_chat_code_and_mathematics_would_be_dropped(row: dict[str, Any], family: str) -> None:
    config = only(family).model_copy(update={"rows": "all"})
    step = QualityStep(config)
    assert step.reasons(table_of(step, [row]))[0]


def test_a_row_of_several_parts_is_judged_as_one_text() -> None:
    step = QualityStep(Quality(rows="all"))
    whole = {"id": "t", "source": "s", "text": f"{CODE['prompt']}\n{CODE['completion']}"}
    assert table_of(step, [CODE]).equals(table_of(step, [whole]))


def test_columns_are_prefixed_and_typed() -> None:
    columns = QualityStep(Quality()).columns()
    assert all(name.startswith("quality_") for name in columns)
    assert columns["quality_words"] == pa.int64() and columns["quality_top_2gram"] == pa.float64()
    assert {limit.column for limit in QualityStep(Quality()).limits()} == columns.keys()
    assert set(QualityStep(only("c4")).columns()) == {
        "quality_characters", "quality_c4_sentences", "quality_c4_lorem_ipsum", "quality_c4_curly_brackets",
    }  # fmt: skip


def test_reasons_follow_new_thresholds_without_measuring() -> None:
    table = table_of(QualityStep(Quality()), [TEXT])
    assert QualityStep(Quality(gopher_quality=GopherQuality(min_words=1000))).reasons(table) == [
        ["gopher_min_words: 158, at least 1000", *QualityStep(Quality()).reasons(table)[0]]
    ]
    lines = {"id": "t", "source": "s", "text": PROSE + "\nfunction f() { return 1; }."}
    table = table_of(QualityStep(only("c4")), [lines])
    assert QualityStep(only("c4")).reasons(table) == [["c4_curly_brackets: 1, at most 0"]]
    assert QualityStep(only("c4", c4=C4(no_curly_bracket=False))).reasons(table) == [[]]


def test_measures_do_not_depend_on_which_rows_stand_together() -> None:
    step = QualityStep(Quality(rows="all"))
    together = table_of(step, ROWS)
    assert together.equals(table_of(step, ROWS))  # with a lexicon that knows all words
    for number, row in enumerate(ROWS):
        assert table_of(QualityStep(Quality(rows="all")), [row]).equals(together.slice(number, 1))

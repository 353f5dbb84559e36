"""Conversations that cannot be learned from: one line that names the turn, or a counted skip."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.rows import SPLITS, read_rows

USER, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
SYSTEM = {"role": "system", "content": "S"}
BAD: dict[str, tuple[list[Any], str]] = {
    "assistant first": ([ANSWER, USER, ANSWER], "messages begins with a turn of the role assistant, not with the user"),
    "assistant after system": (
        [SYSTEM, ANSWER],
        "messages begins with a turn of the role assistant, not with the user",
    ),
    "user twice": ([USER, USER, ANSWER], "messages[1] repeats the role user; join the two turns"),
    "assistant twice": ([USER, ANSWER, ANSWER], "messages[2] repeats the role assistant; join the two turns"),
    "no assistant": ([USER], "messages has no turn of the assistant, so there is nothing to learn"),
    "only system": ([SYSTEM], "messages has no turn of the assistant, so there is nothing to learn"),
    "unknown role": (
        [USER, {"role": "bot", "content": "A"}],
        "messages[1].role is 'bot', not one of system, developer,",
    ),
    "no role": ([{"content": "Q"}, ANSWER], "messages[0].role is None, not one of system"),
    "a number": ([USER, {"role": "assistant", "content": 3}], "messages[1].content is a number, not text"),
    "null": ([USER, {"role": "assistant", "content": None}], "messages[1].content is missing, not text"),
    "blocks": ([{"role": "user", "content": [{"type": "image"}]}, ANSWER], "messages[0].content is a list, not text"),
    "an object": ([{"role": "user", "content": {"text": "Q"}}, ANSWER], "messages[0].content is an object, not text"),
    "no turns": ([], "messages is empty, not a list of turns"),
    "a text": ([USER, "A"], "messages[1] is text, not an object with role and content"),
}


def config_of(file: Path, **options: str) -> DatasetConfig:
    return DatasetConfig.model_validate({"source": str(file), "format": "messages", **options})


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_conversation_is_named_or_counted(kind: str, tmp_path: Path) -> None:
    messages, expected = BAD[kind]
    good = [{"messages": [{"role": "user", "content": f"Q{number}"}, ANSWER]} for number in range(9)]
    file = tmp_path / "chats.jsonl"
    rows = [*good[:4], {"messages": messages}, *good[4:]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load("chats", config_of(file), tmp_path / "refused", None)
    told = str(caught.value)
    assert "chats.jsonl:5: " in told and expected in told, told
    assert "\n" not in told and "data.chats.on_error=skip" in told
    stats = load("chats", config_of(file, on_error="skip"), tmp_path / "skipped", None)
    assert (stats["broken"], stats["rows"]) == (1, 9)
    assert expected in stats["broken_examples"][0]["error"]
    kept = [row for split in SPLITS for row in read_rows(tmp_path / "skipped", split)]
    assert sorted(row["messages"][0]["content"] for row in kept) == [f"Q{number}" for number in range(9)]

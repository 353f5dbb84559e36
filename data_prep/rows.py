"""Canonical rows and the dataset folder that stages hand to each other.

A row is one JSON object with `id`, `source` and one shape: text `{text}`, prompt/completion `{prompt, completion}` or
chat `{messages[, tools]}`. A dataset folder holds `train.jsonl`, `validation.jsonl`, `test.jsonl` and `stats.json`.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from data_prep.errors import DataError

Row = dict[str, Any]
Shape = Literal["text", "prompt_completion", "chat"]

SPLITS = ("train", "validation", "test")
STATS = "stats.json"


def shape_of(row: Row) -> Shape:
    """The shape of a canonical row; DataError when it has none."""
    if "messages" in row:
        return "chat"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "text" in row:
        return "text"
    raise DataError(f"row {row.get('id')}: has neither messages, prompt and completion, nor text; load the data again")


def prompt_text(row: Row) -> str:
    """What the model is given, as plain text: the prompt, or the other turns of a chat; of a text row: ""."""
    if shape_of(row) == "chat":
        return "\n".join(turn["content"] for turn in row["messages"] if turn["role"] != "assistant")
    return row.get("prompt", "")


def completion_text(row: Row) -> str:
    """What the model learns to answer, as plain text: the completion, or the assistant's turns; of a text row: ""."""
    if shape_of(row) == "chat":
        return "\n".join(turn["content"] for turn in row["messages"] if turn["role"] == "assistant")
    return row.get("completion", "")


def read_rows(folder: Path, split: str) -> list[Row]:
    """The rows of one split of a dataset folder; an absent file is an empty split."""
    path = _split_path(folder, split)
    if not path.exists():
        return []
    # Split at \n only: text may hold U+2028 and other characters that str.splitlines takes for line ends.
    lines = path.read_bytes().split(b"\n")
    try:
        return [json.loads(line) for line in lines if line]
    except ValueError as error:
        raise DataError(f"{path}: not a file of canonical rows ({error}); delete it and load the data again") from error


def write_rows(folder: Path, split: str, rows: Iterable[Row]) -> None:
    """Write one split of a dataset folder, whole or not at all."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_whole(_split_path(folder, split), "".join(lines).encode())


def read_stats(folder: Path) -> dict[str, Any]:
    """The numbers that `load` or `curate` noted about a dataset folder; {} when there are none."""
    path = folder / STATS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_stats(folder: Path, stats: dict[str, Any]) -> None:
    """Note numbers about a dataset folder in its stats.json."""
    write_whole(folder / STATS, (json.dumps(stats, ensure_ascii=False, indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _split_path(folder: Path, split: str) -> Path:
    if split not in SPLITS:
        raise DataError(f"split {split}: unknown; allowed are {', '.join(SPLITS)}")
    return folder / f"{split}.jsonl"

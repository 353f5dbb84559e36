"""Canonical rows and the dataset folder that stages hand to each other.

A row is one JSON object with `id`, `source` and one shape: text `{text[, label]}`, prompt/completion
`{prompt, completion[, label]}`, chat `{messages[, tools]}` or preference `{prompt, chosen, rejected[, tools]}`. The
sides of a preference row, and of a prompt/completion row with a (KTO) label, are all texts or all lists of messages.
`meta` holds columns that are carried along and never trained on (a URL, a licence). A dataset folder holds
`train.jsonl`, `validation.jsonl`, `test.jsonl` and `stats.json`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from data_prep.errors import DataError

Row = dict[str, Any]
Shape = Literal["text", "prompt_completion", "chat", "preference"]

SPLITS = ("train", "validation", "test")
STATS = "stats.json"


def shape_of(row: Row) -> Shape:
    """The shape of a canonical row; DataError when it has none."""
    if "messages" in row:
        return "chat"
    if "chosen" in row and "rejected" in row:
        return "preference"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "text" in row:
        return "text"
    needed = "messages, prompt and completion, prompt with chosen and rejected, nor text"
    raise DataError(f"row {row.get('id')}: has neither {needed}; load the data again")


def prompt_text(row: Row) -> str:
    """What the model is given, as plain text: the prompt, or the other turns of a chat; of a text row: ""."""
    if shape_of(row) == "chat":
        return "\n".join(turn["content"] for turn in row["messages"] if turn["role"] != "assistant")
    return text_of(row.get("prompt", ""))


def completion_text(row: Row) -> str:
    """What the model learns to answer, as plain text: the completion, the assistant's turns, or the chosen side.

    Of a text row: "".
    """
    if shape_of(row) == "chat":
        return "\n".join(turn["content"] for turn in row["messages"] if turn["role"] == "assistant")
    return text_of(row.get("chosen", row.get("completion", "")))


def parts_of(row: Row) -> dict[str, str]:
    """The texts of a row that filters look at: `text`; `prompt` and `completion`; or `prompt`, `chosen`, `rejected`."""
    shape = shape_of(row)
    if shape == "text":
        return {"text": row["text"]}
    if shape == "preference":
        return {side: text_of(row[side]) for side in ("prompt", "chosen", "rejected")}
    return {"prompt": prompt_text(row), "completion": completion_text(row)}


def text_of(side: str | list[dict[str, Any]]) -> str:
    """One side of a row as plain text: itself, or the contents of its messages, one per line."""
    return side if isinstance(side, str) else "\n".join(turn["content"] for turn in side)


def read_rows(folder: Path, split: str) -> list[Row]:
    """The rows of one split of a dataset folder; an absent file is an empty split."""
    return list(iterate_rows(folder, split))


def iterate_rows(folder: Path, split: str) -> Iterator[Row]:
    """The rows of one split, read one by one, so that memory stays flat; an absent file is an empty split."""
    yield from _rows_of(iterate_lines(folder, split), _split_path(folder, split))


def iterate_lines(folder: Path, split: str) -> Iterator[bytes]:
    """The rows of one split as lines of JSON, without their line ends; an absent file is an empty split."""
    path = _split_path(folder, split)
    if path.exists():
        with path.open("rb") as lines:
            yield from (content for line in lines if (content := line.removesuffix(b"\n")))


def row_ranges(folder: Path, split: str, shard_bytes: int) -> list[tuple[int, int]]:
    """Byte ranges `[start, end)` that cover one split, each of whole lines and at least `shard_bytes` (but the last).

    They follow from the file and `shard_bytes` alone; an absent or empty file has none.
    """
    path, ranges, start = _split_path(folder, split), list[tuple[int, int]](), 0
    size = path.stat().st_size if path.exists() else 0
    while start < size:
        with path.open("rb") as file:
            file.seek(min(start + max(shard_bytes, 1), size) - 1)
            file.readline()
            ranges.append((start, file.tell()))
        start = ranges[-1][1]
    return ranges


def read_range(folder: Path, split: str, start: int, end: int) -> list[Row]:
    """The rows of one of the ranges that `row_ranges` gave."""
    path = _split_path(folder, split)
    with path.open("rb") as file:
        file.seek(start)
        # Split at \n only: text may hold U+2028 and other characters that str.splitlines takes for line ends.
        return list(_rows_of(file.read(end - start).split(b"\n"), path))


def _rows_of(lines: Iterable[bytes], path: Path) -> Iterator[Row]:
    try:
        for line in lines:
            if line:
                yield json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}: not a file of canonical rows ({error}); delete it and load the data again") from error


def write_rows(folder: Path, split: str, rows: Iterable[Row]) -> None:
    """Write one split of a dataset folder, whole or not at all."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_whole(_split_path(folder, split), "".join(lines).encode())


@contextmanager
def write_splits(folder: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Write the splits of a dataset folder row by row: a function that adds one line of JSON to a split.

    All three files appear together at the end; after an error none does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: _split_path(folder, split) for split in SPLITS}
    temporary = {split: path.with_name(f".{path.name}.{os.getpid()}") for split, path in paths.items()}
    try:
        with ExitStack() as opened:
            files = {split: opened.enter_context(path.open("wb")) for split, path in temporary.items()}
            yield lambda split, line: files[split].writelines((line, b"\n"))
        for split, path in temporary.items():
            path.replace(paths[split])
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


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

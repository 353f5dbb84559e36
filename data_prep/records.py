"""One row of a file as it was read, before any format has made sense of it."""

from dataclasses import dataclass
from typing import Any, cast

MAX_ROW_BYTES = 64 * 2**20

_JSON_TYPES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


@dataclass(frozen=True)
class Record:
    """One row of a file: `row` and an empty `error`, or an empty row and what is wrong. `line` counts from 1."""

    file: str
    line: int
    row: dict[str, Any]
    error: str = ""


def object_record(value: object, label: str, number: int) -> Record:
    """The record of a parsed JSON value, which must be an object."""
    if isinstance(value, dict):
        return Record(label, number, cast(dict[str, Any], value))
    return Record(label, number, {}, f"the row is a JSON {_JSON_TYPES[type(value)]}, not an object")


def too_long(size: int, limit: int) -> str:
    """What is said about a row of `size` bytes; bigger rows are never parsed."""
    return f"{size:,} bytes long, above max_row_bytes {limit:,} (usually glued or binary data)"

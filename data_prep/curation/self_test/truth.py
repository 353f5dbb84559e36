"""What was planted, and where texts of a row stand."""

import copy
from dataclasses import dataclass
from typing import Any

from data_prep.rows import Row

Path = tuple[str | int, ...]
"""Keys and positions that lead to a text: ("text",), ("messages", 0, "content")."""


@dataclass(frozen=True)
class Truth:
    """One planted case."""

    step: str
    """`near_dedup`, `pii` or `decontamination`."""
    kind: str
    """What was planted: a level of similarity, a kind of personal data, a guise of a leak."""
    expected: bool
    """Whether the step must find it; else it must not."""
    row: str
    """Id of the planted row."""
    base: str = ""
    """Near-duplicates: id of the row that is nearly repeated."""
    jaccard: float = 1.0
    """Near-duplicates: the exact similarity of the two."""
    item: str = ""
    """Leaks: id of the evaluation item."""
    part: str = ""
    """Personal data: path of the text that holds it, as in `pii_spans`."""
    start: int = 0
    end: int = 0
    """Personal data: its characters."""


@dataclass(frozen=True)
class Planted:
    """Rows to run the steps on, in the order of the user's rows, and what is known about them."""

    rows: list[Row]
    truths: list[Truth]
    not_tested: dict[str, str]
    """Step, or step and kind, → why nothing was planted."""


def paths(row: Row) -> list[Path]:
    """Where the texts of a row stand."""
    found: list[Path] = []
    for name in ("text", "prompt", "completion", "messages", "chosen", "rejected"):
        value = row.get(name)
        if isinstance(value, str):
            found.append((name,))
        elif isinstance(value, list):
            found += [(name, at, "content") for at, turn in enumerate(value) if isinstance(turn.get("content"), str)]
    return found


def text_at(row: Row, path: Path) -> str:
    """The text at a path."""
    value: Any = row
    for key in path:
        value = value[key]
    return value


def replaced(row: Row, path: Path, text: str, identity: str) -> Row:
    """A copy of a row with another text and another id; the given row stays as it is."""
    new = copy.deepcopy(row)
    value: Any = new
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = text
    new["id"] = identity
    return new


def longest(row: Row, among: list[Path]) -> Path | None:
    """The path of the longest text; None: there is none."""
    return max(among, key=lambda path: len(text_at(row, path)), default=None)


def name_of(path: Path) -> str:
    """A path as the ledger writes it."""
    return "/".join(map(str, path))

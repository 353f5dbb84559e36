"""The parts of a text, where they stand, and the texts of a row that have parts."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_prep.curation.repeated_parts.config import RepeatedParts
from data_prep.rows import Row, shape_of

BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
"""Linear: a blank line can be matched in one way only."""


class Part(NamedTuple):
    """A part of a text: text[start:stop], followed by a separator up to `after`."""

    start: int
    stop: int
    after: int
    number: int
    """64-bit hash of the part without white space around it; 0 for a part that is too short to matter."""


def parts_in(text: str, config: RepeatedParts) -> Iterator[Part]:
    """The parts of a text in their order; with their separators they are the whole text."""
    start = 0
    for stop, after in _separators(text, config):
        yield Part(start, stop, after, number_of(text[start:stop], config.min_characters))
        start = after
    yield Part(start, len(text), len(text), number_of(text[start:], config.min_characters))


def number_of(part: str, min_characters: int) -> int:
    """XXH3 with 64 bits: among a million parts of boilerplate one in 1.8e13 other parts is taken for one of them."""
    from xxhash import xxh3_64_intdigest

    part = part.strip()
    if len(part) < min_characters:
        return 0
    return xxh3_64_intdigest(part.encode("utf-8", "surrogatepass"))


def row_number(row: Row) -> int:
    """64-bit hash of the row's source and id; never 0."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(f"{row.get('source')}\0{row['id']}".encode("utf-8", "surrogatepass")) or 1


def is_looked_at(row: Row, config: RepeatedParts) -> bool:
    """Whether the row is counted and cleaned."""
    return config.rows == "all" or shape_of(row) == "text"


def with_texts(row: Row, change: Callable[[str], str]) -> Row:
    """A row with `change` done to each of its texts, in the order in which they are read; the given one stays."""
    shape = shape_of(row)
    if shape == "chat":
        return {**row, "messages": _changed(row["messages"], change)}
    sides = {"text": ("text",), "preference": ("prompt", "chosen", "rejected")}.get(shape, ("prompt", "completion"))
    return {**row, **{side: _changed(row[side], change) for side in sides}}


def texts_of(row: Row) -> list[str]:
    """The texts of a row, in the order in which they are read."""
    texts: list[str] = []
    with_texts(row, lambda text: texts.append(text) or text)
    return texts


def _changed(side: Any, change: Callable[[str], str]) -> Any:
    if isinstance(side, list):
        return [{**turn, "content": change(turn["content"])} if turn.get("content") else turn for turn in side]
    return change(side)


def _separators(text: str, config: RepeatedParts) -> Iterator[tuple[int, int]]:
    if config.unit == "paragraph":
        yield from (match.span() for match in BLANK_LINES.finditer(text))
        return
    at = text.find("\n")
    while at >= 0:
        yield at, at + 1
        at = text.find("\n", at + 1)

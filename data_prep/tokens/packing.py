"""Documents packed into rows of equal length. No document is lost or repeated; a cut one continues in another row."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Piece = tuple[str, list[int]]
"""A document or a part of one: its id and its tokens."""

WINDOW = 4096
"""Pieces that best fit looks at together: memory stays flat, and more hardly fit better."""


@dataclass(slots=True)
class Packed:
    """One row: the tokens of its pieces one after the other."""

    input_ids: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.documents.append(piece[0])
        self.input_ids += piece[1]
        self.lengths.append(len(piece[1]))


def split(documents: Iterable[Piece], max_length: int) -> Iterator[Piece]:
    """Every document in pieces of at most `max_length`."""
    for name, tokens in documents:
        for start in range(0, len(tokens), max_length):
            yield name, tokens[start : start + max_length]


def apart(documents: Iterable[Piece], max_length: int) -> Iterator[Packed]:
    """A row per piece."""
    for piece in split(documents, max_length):
        row = Packed()
        row.add(piece)
        yield row


def concatenate(documents: Iterable[Piece], max_length: int) -> Iterator[Packed]:
    """Full rows in the order of the documents; only the last may be short."""
    row = Packed()
    for name, tokens in documents:
        start = 0
        while start < len(tokens):
            room = max_length - len(row.input_ids)
            row.add((name, tokens[start : start + room]))
            start += room
            if len(row.input_ids) == max_length:
                yield row
                row = Packed()
    if row.input_ids:
        yield row


def best_fit(documents: Iterable[Piece], max_length: int, window: int = WINDOW) -> Iterator[Packed]:
    """The longest pieces first, each into the fullest row that has room; only what is longer than a row is cut."""
    waiting: list[Piece] = []
    for piece in split(documents, max_length):
        waiting.append(piece)
        if len(waiting) == window:
            yield from _best_fit(waiting, max_length)
            waiting = []
    yield from _best_fit(waiting, max_length)


def _best_fit(pieces: list[Piece], max_length: int) -> list[Packed]:
    rows: list[Packed] = []
    room: list[tuple[int, int]] = []  # free places and number of each row that has some, sorted
    for piece in sorted(pieces, key=lambda piece: -len(piece[1])):
        place = bisect_left(room, (len(piece[1]), -1))
        if place < len(room):
            free, index = room.pop(place)
        else:
            free, index = max_length, len(rows)
            rows.append(Packed())
        rows[index].add(piece)
        if free > len(piece[1]):
            insort(room, (free - len(piece[1]), index))
    return rows

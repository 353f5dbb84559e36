"""Splits many runs of non-space characters into words at once: runs of one shape are divided at the same places.

The shape of a run has `q` for every small, `Q` for every capital ASCII letter, `4` for every digit, and no more than
two equal ones of these in a row; all else is itself. `split_chunk` looks at letters and digits only as such, except
in special words (don't, Mr., :D), web addresses, units after a digit and US$; runs that may hold one of those are
their own shape. So split_chunk is called once per shape, and the tests compare both on all runs of real documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.chunks import SPECIAL, UNITS
from data_prep.curation.quality.hashing import PADDING, Bytes, Hashes, Ints, mixed, span_hashes

SPACE, FULL_STOP, DOLLAR, APOSTROPHE, CURLY_APOSTROPHE_END = 0x20, ord("."), ord("$"), ord("'"), 0x99
_SMALL, _CAPITAL, _DIGIT = b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
_TO_SHAPE = bytes.maketrans(_SMALL + _CAPITAL + _DIGIT, b"q" * 26 + b"Q" * 26 + b"4" * 10)
_NUMBERS_OF_AN_ADDRESS = 3


Flags = npt.NDArray[np.bool_]


def _members(characters: bytes, beyond_ascii: bool = False) -> Flags:
    flags = np.zeros(256, np.bool_)
    flags[list(characters)] = True
    flags[128:] |= beyond_ascii
    return flags


_IS_DIGIT, _IS_LETTER = _members(_DIGIT), _members(_SMALL + _CAPITAL)
_IS_LETTER_OR_BEYOND = _members(_SMALL + _CAPITAL, beyond_ascii=True)
_IS_ALPHANUMERIC = _members(_SMALL + _CAPITAL + _DIGIT)
_IS_S, _IS_APOSTROPHE_END = _members(b"sS"), _members(bytes([APOSTROPHE, CURLY_APOSTROPHE_END]))
_IS_COLLAPSED = _members(b"qQ4")


@dataclass(frozen=True)
class Runs:
    """R runs laid side by side, each followed by a space; then PADDING more bytes."""

    flat: Bytes
    starts: Ints
    """[R] first byte of each."""
    ends: Ints
    """[R] the byte after its last."""

    @property
    def owners(self) -> Ints:
        """[bytes without the padding] the run that each byte belongs to."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts + 1)


@dataclass(frozen=True)
class Shapes:
    """The shapes of R runs."""

    flat: Bytes
    starts: Ints
    ends: Ints
    kept: Ints
    """For each byte of a shape the byte of the runs that it stands for: the first of its kind, wherever words begin."""

    hashes: Hashes
    """[R] equal for equal shapes."""


def lay_out(buffer: Bytes, starts: Ints, ends: Ints) -> Runs:
    """Copies of the given spans of a buffer, side by side."""
    lengths = ends - starts + 1
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(starts - bounds[:-1], lengths) + np.arange(bounds[-1])
    flat = np.full(bounds[-1] + PADDING, SPACE, np.uint8)
    flat[: bounds[-1]] = buffer.take(places)
    flat[bounds[1:] - 1] = SPACE
    return Runs(flat, bounds[:-1], bounds[1:] - 1)


def shapes_of(runs: Runs) -> Shapes:
    """The shape of each run."""
    owners = runs.owners
    own_shape, kept_letters = _own_shapes(runs, owners)
    shape = np.frombuffer(bytearray(runs.flat.tobytes().translate(_TO_SHAPE)), np.uint8)
    own = np.zeros(len(shape), np.bool_)
    own[: len(owners)] = own_shape.take(owners)
    own[kept_letters] = True
    shape[own] = runs.flat[own]
    third = np.zeros(len(shape), np.bool_)
    third[2:] = (shape[2:] == shape[1:-1]) & (shape[2:] == shape[:-2]) & _IS_COLLAPSED.take(shape[2:]) & ~own[2:]
    kept = np.flatnonzero(~third)
    flat = shape.take(kept)
    starts, ends = np.searchsorted(kept, runs.starts), np.searchsorted(kept, runs.ends)
    return Shapes(flat, starts, ends, kept, span_hashes(flat, starts, ends))


def _own_shapes(runs: Runs, owners: Ints) -> tuple[Flags, Ints]:
    """[R] flags of the runs that are their own shape, and where a letter s stands after an apostrophe: it stays."""
    flat = runs.flat
    here, after = flat[:-1], flat[1:]
    divides = (here == FULL_STOP) & _IS_LETTER_OR_BEYOND.take(after)
    divides |= _IS_LETTER.take(here) & (after == DOLLAR)
    divides |= _IS_DIGIT.take(here) & (after >= 0x80)
    own = np.zeros(len(runs.starts), np.bool_)
    own[owners[np.flatnonzero(divides)]] = True
    decimals = np.flatnonzero((here == FULL_STOP) & _IS_DIGIT.take(after))
    own |= np.bincount(owners[decimals], minlength=len(own)) >= _NUMBERS_OF_AN_ADDRESS
    after_digit = np.flatnonzero(_IS_DIGIT.take(here) & _IS_LETTER.take(after)) + 1
    ends = _ends(_IS_LETTER.take(flat))
    ends = ends.take(np.searchsorted(ends, after_digit, side="right"), mode="clip") if len(ends) else after_digit
    own[owners[after_digit[_among(_unit_letters(), span_hashes(flat, after_digit, ends))]]] = True
    starts, ends = _parts(flat)
    possessive = (ends - starts == 1) & _IS_S.take(flat[starts])
    possessive &= _IS_APOSTROPHE_END.take(flat[np.maximum(starts - 1, 0)]) & (starts > 0)
    hashes = span_hashes(flat, starts, ends)
    cores, contexts = _special_cores()
    known = np.flatnonzero(_among(cores, hashes) & ~possessive)
    before, behind = flat[np.maximum(starts[known] - 1, 0)], flat[ends[known]]
    for keys in _context_keys(hashes[known], before, behind):
        own[owners[starts[known[_among(contexts, keys)]]]] = True
    return own, starts[possessive]


def _parts(flat: Bytes) -> tuple[Ints, Ints]:
    """Starts and ends of the parts of letters and digits."""
    edges = np.flatnonzero(np.diff(_IS_ALPHANUMERIC.take(flat), prepend=False))
    return edges[::2], edges[1::2]


def _ends(inside: Flags) -> Ints:
    return np.flatnonzero(inside[:-1] & ~inside[1:]) + 1


def _among(ascending: Hashes, values: Hashes) -> Flags:
    return ascending.take(np.searchsorted(ascending, values), mode="clip") == values


def _context_keys(hashes: Hashes, before: Bytes, behind: Bytes) -> Iterator[Hashes]:
    """Keys of parts with the bytes around them; 0 stands for any byte."""
    for sides in range(4):
        around = before.astype(np.int64) * (sides & 1) + behind.astype(np.int64) * (sides & 2) * 256
        yield hashes + mixed(around)


@cache
def _special_cores() -> tuple[Hashes, Hashes]:
    """Hashes of the longest part of letters and digits of each special word, alone and with its neighbours there.

    A run without any of these holds no special word, but those of signs only and those of the letter s after an
    apostrophe, which are themselves in every shape.
    """
    words = SPECIAL.keys() - {"0.0"}  # which is kept whole like any number
    flat = np.frombuffer("".join(f"{word} " for word in sorted(words)).encode() + bytes(PADDING), np.uint8)
    starts, ends = _parts(flat)
    word = np.searchsorted(np.flatnonzero(flat == SPACE), starts)
    order = np.lexsort((starts - ends, word))
    longest = order[np.flatnonzero(np.diff(word[order], prepend=-1))]
    starts, ends = starts[longest], ends[longest]
    hashes = span_hashes(flat, starts, ends)
    before, behind = flat[np.maximum(starts - 1, 0)], flat[ends]
    around = np.where((before == SPACE) | (starts == 0), 0, before.astype(np.int64))
    around += np.where(behind == SPACE, 0, behind.astype(np.int64)) * 512
    return np.unique(hashes), np.unique(hashes + mixed(around))


@cache
def _unit_letters() -> Hashes:
    """Hashes of the letters with which units begin."""
    flat = np.frombuffer("".join(f"{unit} " for unit in UNITS).encode() + bytes(PADDING), np.uint8)
    first = np.concatenate([[0], np.flatnonzero(flat == SPACE)[:-1] + 1])
    first = first[_IS_LETTER.take(flat[first])]
    ends = _ends(_IS_LETTER.take(flat))
    return np.unique(span_hashes(flat, first, ends[np.searchsorted(ends, first, side="right")]))

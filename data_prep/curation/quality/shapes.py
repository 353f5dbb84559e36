"""Splits many runs of non-space characters into words at once: runs of one shape are divided at the same places.

The shape of a run has `q` for every small, `Q` for every capital ASCII letter, `4` for every digit, and no more than two
equal ones of these in a row; all else is itself. `split_chunk` looks at letters and digits only as such, except in
special words (don't, Mr., :D), web addresses, units after a digit and US$; runs that may hold one of those are their
own shape. So split_chunk is called once per shape, and the tests compare both on all runs of real documents.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.chunks import SPECIAL
from data_prep.curation.quality.hashing import PADDING, Bytes, Hashes, Ints, span_hashes

SPACE, FULL_STOP, DOLLAR, APOSTROPHE, CURLY_APOSTROPHE_END = 0x20, ord("."), ord("$"), ord("'"), 0x99
_SMALL, _CAPITAL, _DIGIT = b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
_TO_SHAPE = bytes.maketrans(_SMALL + _CAPITAL + _DIGIT, b"q" * 26 + b"Q" * 26 + b"4" * 10)
_NUMBERS_OF_AN_ADDRESS = 3


def _members(characters: bytes, beyond_ascii: bool = False) -> npt.NDArray[np.bool_]:
    flags = np.zeros(256, np.bool_)
    flags[list(characters)] = True
    flags[128:] = beyond_ascii
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


def _own_shapes(runs: Runs, owners: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
    """[R] flags of the runs that are their own shape, and the bytes of the letter s after an apostrophe, which stays."""
    here, after = runs.flat[:-1], runs.flat[1:]
    digit_here = _IS_DIGIT.take(here)
    divides = (here == FULL_STOP) & _IS_LETTER_OR_BEYOND.take(after)
    divides |= digit_here & _IS_LETTER.take(after)
    divides |= _IS_LETTER.take(here) & (after == DOLLAR)
    own = np.zeros(len(runs.starts), np.bool_)
    own[owners[np.flatnonzero(divides)]] = True
    decimals = np.flatnonzero((here == FULL_STOP) & _IS_DIGIT.take(after))
    own |= np.bincount(owners[decimals], minlength=len(own)) >= _NUMBERS_OF_AN_ADDRESS
    inside = _IS_ALPHANUMERIC.take(runs.flat)
    edges = np.flatnonzero(np.diff(inside, prepend=False))
    starts, ends = edges[::2], edges[1::2]
    possessive = (ends - starts == 1) & _IS_S.take(runs.flat[starts])
    possessive &= _IS_APOSTROPHE_END.take(runs.flat[np.maximum(starts - 1, 0)]) & (starts > 0)
    cores = _special_cores()
    hashes = span_hashes(runs.flat, starts, ends)
    known = cores.take(np.searchsorted(cores, hashes), mode="clip") == hashes
    own[owners[starts[known & ~possessive]]] = True
    return own, starts[possessive]


@cache
def _special_cores() -> Hashes:
    """Hashes of the longest part of letters and digits of every special word: a run without any holds no special word.

    Words of signs alone are themselves in every shape, and so are those of the letter s after an apostrophe.
    """
    joined = "".join(f"{word} " for word in SPECIAL).encode() + bytes(PADDING)
    flat = np.frombuffer(joined, np.uint8)
    inside = _IS_ALPHANUMERIC.take(flat)
    edges = np.flatnonzero(np.diff(inside, prepend=False))
    starts, ends = edges[::2], edges[1::2]
    word = np.searchsorted(np.flatnonzero(flat == SPACE), starts)
    order = np.lexsort((starts - ends, word))
    longest = order[np.flatnonzero(np.diff(word[order], prepend=-1))]
    return np.unique(span_hashes(flat, starts[longest], ends[longest]))

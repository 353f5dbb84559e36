"""Hashed n-grams of many texts at once: words, word pairs and runs of 3 to 5 characters, as bucket numbers.

scikit-learn's HashingVectorizer gives features of the same kind at about 1 MB/s, because its n-grams are Python
strings; here they are never made: multilinear hashing (Lemire & Kaser 2014) of code points, a numpy array at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Piece = tuple[Integers, Integers]
"""Where n-grams of one length begin, counted from the first text, and their buckets."""

SCHEME = "words-1-2+characters-3-5/1"
"""Name of these features: another scheme needs other weights."""

CHARACTER_RUNS = (3, 4, 5)
LONGEST_WORD = 32
"""A word's characters beyond these do not count."""
GAP = CHARACTER_RUNS[-1]

_RANDOM = np.random.Generator(np.random.PCG64(20261121))
_PLACES = _RANDOM.integers(1, 2**32, LONGEST_WORD, dtype=np.uint32) | np.uint32(1)
_SALTS = _RANDOM.integers(1, 2**32, 8, dtype=np.uint32) | np.uint32(1)
_ASCII_WORDS = np.array([chr(code).isalnum() or chr(code) == "'" for code in range(128)])


@dataclass(frozen=True)
class Grams:
    """The n-grams of some texts laid one after the other: text k covers the positions `starts[k]` to `ends[k]`."""

    starts: Integers
    ends: Integers
    words: list[Piece]
    characters: list[Piece]


def grams_of(texts: Sequence[str], bits: int) -> Grams:
    """The n-grams of lower-cased texts, each as one of 2**bits buckets (at most 2**24).

    White space counts as one space; words are runs of letters, digits and apostrophes. A text shorter than a run has
    none of that length, and an empty text has no n-grams. What a text has does not depend on the others.
    """
    plain = [" ".join(text.lower().split()) for text in texts]
    lengths = np.fromiter((len(text) for text in plain), np.int64, len(plain))
    joined = "".join(text + " " * GAP for text in plain)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum(lengths + GAP) - GAP
    starts = ends - lengths
    return Grams(starts, ends, _words(codes, ends, bits), _characters(codes, _covered(starts, ends, len(codes)), bits))


def _covered(starts: Integers, ends: Integers, total: int) -> NDArray[np.bool_]:
    inside = np.ones(total, bool)
    for step in range(GAP):
        inside[ends + step] = False
    return inside


def _characters(codes: Any, inside: NDArray[np.bool_], bits: int) -> list[Piece]:
    """A run belongs to one text when its ends do, because the gap between texts is wider than what lies between."""
    found: list[Piece] = []
    total = len(codes)
    sums = np.zeros(total, np.uint32)
    for place in range(min(CHARACTER_RUNS[-1], total)):
        sums = sums[: total - place] + codes[place:] * _PLACES[place]
        if place + 1 in CHARACTER_RUNS:
            begins = np.flatnonzero(inside[: total - place] & inside[place:])
            found.append((begins, _bucket(sums[begins], place, bits)))
    return found


def _words(codes: Any, ends: Integers, bits: int) -> list[Piece]:
    edges = np.diff(_is_word(codes).astype(np.int8), prepend=0, append=0)
    begins = np.flatnonzero(edges == 1)
    if not len(begins):
        return []
    lengths = np.minimum(np.flatnonzero(edges == -1) - begins, LONGEST_WORD)
    firsts = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) - np.repeat(firsts, lengths)
    terms = codes[np.repeat(begins, lengths) + places] * _PLACES[places]
    hashes = np.add.reduceat(terms, firsts, dtype=np.uint32)
    owner = np.searchsorted(ends, begins, side="right")
    same = owner[1:] == owner[:-1]
    pairs = (_mixed(hashes[:-1]) * _SALTS[6] + _mixed(hashes[1:]) * _SALTS[7])[same]
    return [(begins, _bucket(hashes, 0, bits)), (begins[:-1][same], _bucket(pairs, 1, bits))]


def _is_word(codes: Any) -> NDArray[np.bool_]:
    """ASCII letters, digits and apostrophe; beyond ASCII all but spaces and punctuation of the general blocks."""
    inside = _ASCII_WORDS[np.minimum(codes, 127)]
    beyond = np.flatnonzero(codes >= 128)
    if len(beyond):
        high = codes[beyond]
        marks = (high < 0xC0) | ((high >= 0x2000) & (high < 0x2070) & (high != 0x2019))
        inside[beyond] = ~(marks | ((high >= 0x3000) & (high < 0x3040)))
    return inside


def _bucket(hashes: Any, salt: int, bits: int) -> Integers:
    return ((_mixed(hashes) * _SALTS[salt]) >> np.uint32(32 - bits)).astype(np.int64)


def _mixed(hashes: Any) -> Any:
    return hashes ^ (hashes >> np.uint32(15))

"""The words of every shape seen so far, and what rules count in them."""

import unicodedata

import numpy as np

from data_prep.curation.quality.characters import PUNCTUATION, SENTENCE_ENDS
from data_prep.curation.quality.chunks import split_chunk
from data_prep.curation.quality.hashing import Ints
from data_prep.curation.quality.shapes import Shapes
from data_prep.curation.quality.table import Column, HashTable

OPENS, CLOSES, SILENT, CURLY, BRACKET = (1 << bit for bit in range(8, 13))
"""Marks of a run: its first word that is not punctuation begins a sentence; its last one, silent punctuation aside,
ends one; all its words are silent punctuation; it holds "{"; it holds "["."""
RARE = 1 << 15
"""Sentences begin inside it, or it holds hash signs or ellipses."""


def expand(first: Ints, counts: Ints) -> Ints:
    """first, first + 1, … (as many as counted) of each, one after the other."""
    bounds = np.cumsum(counts, dtype=np.int64)
    total = int(bounds[-1]) if len(bounds) else 0
    return np.repeat(first - bounds + counts, counts) + np.arange(total)


class ShapeBook:
    """Per shape: its words, how many are proper or alphabetic, its marks; per word where it begins."""

    def __init__(self) -> None:
        self._table = HashTable()
        self.first = Column(np.int64)
        self.count = Column(np.int64)
        self.alphabetic = Column(np.int32)
        self.marks = Column(np.uint16)
        self.rare = Column(np.int32, 3)
        self.offset = Column(np.int64)
        self.is_proper = Column(np.int64)
        self._kinds = _Kinds()
        for column in (self.first, self.count, self.alphabetic, self.marks, self.rare):
            column.append(np.zeros((1, 3) if column is self.rare else 1, np.int64))

    def numbers(self, shapes: Shapes) -> Ints:
        """[R] the number of each run's shape; new shapes are split and noted."""
        numbers = self._table.find(shapes.hashes)
        missing = np.flatnonzero(numbers == 0)
        if len(missing):
            fresh, first = np.unique(shapes.hashes[missing], return_index=True)
            places = missing[first]
            self._table.add(fresh)
            flat = shapes.flat.tobytes()
            bounds = zip(shapes.starts[places].tolist(), shapes.ends[places].tolist(), strict=True)
            self._note([flat[low:high].decode("utf-8", "surrogatepass") for low, high in bounds])
            numbers[missing] = self._table.find(shapes.hashes[missing])
        return numbers

    def _note(self, shapes: list[str]) -> None:
        splits = [split_chunk(shape) for shape in shapes]
        counts = np.fromiter(map(len, splits), np.int64, len(splits))
        words = [word for split in splits for word in split]
        lengths = np.fromiter(map(_bytes, words), np.int64, len(words))
        bounds = np.cumsum(counts) - counts
        starts = np.cumsum(lengths) - lengths
        kinds = np.fromiter(map(self._kinds.__getitem__, words), np.int64, len(words))
        self.first.append(len(self.offset) + bounds)
        self.count.append(counts)
        self.offset.append(starts - np.repeat(starts[bounds], counts))
        self.is_proper.append((kinds & _SIGNS) == 0)
        self.alphabetic.append(np.add.reduceat((kinds & _ALPHABETIC) != 0, bounds, dtype=np.int64))
        marks, inner = _sentence_marks(kinds, bounds, counts)
        rare = np.array([(0, shape.count("#"), shape.count("...") + shape.count("…")) for shape in shapes])
        rare[:, 0] = inner
        marks += RARE * rare.any(axis=1)
        marks += CURLY * np.fromiter(("{" in shape for shape in shapes), np.bool_, len(shapes))
        marks += BRACKET * np.fromiter(("[" in shape for shape in shapes), np.bool_, len(shapes))
        self.marks.append(marks)
        self.rare.append(rare)


class _Kinds(dict[str, int]):
    """The flags of words; those of short ones are kept."""

    def __missing__(self, word: str) -> int:
        kind = _kind_of(word)
        if len(word) <= _SHORT:
            self[word] = kind
        return kind


_SIGNS, _ALPHABETIC, _ENDS, _SILENT = 1, 2, 4, 8
_SHORT = 64


def _bytes(word: str) -> int:
    return len(word) if word.isascii() else len(word.encode("utf-8", "surrogatepass"))


def _kind_of(word: str) -> int:
    """Flags: of signs only; with a letter; the end of a sentence; other punctuation."""
    if word.isalpha():
        return _ALPHABETIC
    kind = _SIGNS * all(character in PUNCTUATION for character in word) | _ALPHABETIC * any(map(str.isalpha, word))
    if word in SENTENCE_ENDS:
        return kind | _ENDS
    return kind | _SILENT * all(unicodedata.category(character).startswith("P") for character in word)


def _sentence_marks(kinds: Ints, bounds: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Per run the marks of sentences, and how many begin inside it: at a word after an end, silent ones passed over."""
    owner = np.repeat(np.arange(len(counts)), counts)
    heard = np.flatnonzero((kinds & _SILENT) == 0)
    runs = owner[heard]
    ends = (kinds[heard] & _ENDS) != 0
    marks = np.full(len(bounds), SILENT)
    first = np.flatnonzero(np.diff(runs, prepend=-1))
    last = np.flatnonzero(np.diff(runs, append=-1))
    marks[runs] = 0
    marks[runs[first]] |= np.where(ends[first], 0, OPENS)
    marks[runs[last]] |= np.where(ends[last], CLOSES, 0)
    begins = ~ends[1:] & ends[:-1] & (runs[1:] == runs[:-1])
    return marks, np.bincount(runs[1:][begins], minlength=len(bounds))

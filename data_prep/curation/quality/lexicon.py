"""What is known about every run of non-space characters seen so far: looked at once, then only counted."""

from functools import cache

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.hashing import PADDING, Bytes, Hashes, Ints, span_hashes
from data_prep.curation.quality.shapes import Runs, Shapes, lay_out, shapes_of
from data_prep.curation.quality.splits import ShapeBook, expand
from data_prep.curation.quality.table import Column, HashTable

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
JAVASCRIPT, PHRASE = 1 << 13, 1 << 14
MOST_RUNS = 1_000_000
MOST_WORDS = 3_000_000

_PHRASE_WORDS = (b"lorem", b"terms", b"privacy", b"cookie", "\N{KELVIN SIGN}".encode())


class Lexicon:
    """Numbers of runs; per run its words and their sums; per word its lengths and hashes.

    It holds about 80 bytes per run. One of more than MOST_RUNS runs or MOST_WORDS words is emptied between two
    batches. No measure depends on what it held before, so neither the order nor the size of batches matters.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._table = HashTable()
        self._book = ShapeBook()
        self.first = Column(np.int32)
        """Per run its first word's place in the columns per word; run 0 is no run."""
        self.count = Column(np.int32)
        """Per run its number of words."""
        self.proper = Column(np.uint64)
        """Per run the number of words that are not signs only · 2³² + their characters."""
        self.alphabetic = Column(np.int32)
        """Per run the number of words with a letter."""
        self.marks = Column(np.uint16)
        """Per run: bits 0 to 7 its stop words, then the marks of `splits` and of this module."""
        self.rare = Column(np.int32, 3)
        """Per run: sentences that begin inside it, hash signs, ellipses."""
        self.hashes = Column(np.uint64)
        """Per word a hash: equal for equal words."""
        self.characters = Column(np.int32)
        """Per word its characters."""
        for column in (self.first, self.count, self.proper, self.alphabetic, self.marks, self.rare):
            column.append(np.zeros((1, 3) if column is self.rare else 1, np.int64))

    def numbers(self, buffer: Bytes, starts: Ints, ends: Ints, hashes: Hashes) -> Ints:
        """[K] the numbers of the runs of a batch; new ones are split and noted."""
        if len(self._table) > MOST_RUNS or len(self.hashes) > MOST_WORDS:
            self.clear()
        numbers, fresh = self._table.number(hashes)
        if len(fresh):
            self._note(lay_out(buffer, starts[fresh], ends[fresh]))
        return numbers

    def _note(self, runs: Runs) -> None:
        shapes = shapes_of(runs)
        numbers = self._book.numbers(shapes)
        book = self._book
        counts = book.count.values.take(numbers)
        places = expand(book.first.values.take(numbers), counts)
        starts, ends = _word_bounds(runs, shapes, counts, book.offset.values.take(places))
        bounds = np.cumsum(counts) - counts
        characters = _characters(runs.flat, starts, ends)
        hashes = span_hashes(runs.flat, starts, ends)
        proper = book.is_proper.values.take(places)
        letters = np.add.reduceat(characters * proper, bounds)
        self.first.append(len(self.hashes) + bounds)
        self.count.append(counts)
        self.proper.append(
            np.add.reduceat(proper, bounds).astype(np.uint64) << np.uint64(32) | letters.astype(np.uint64)
        )
        self.alphabetic.append(book.alphabetic.values.take(numbers))
        self.rare.append(book.rare.values.take(numbers, axis=0))
        self.marks.append(book.marks.values.take(numbers) | _stop_words(hashes, bounds) | _mentions(runs))
        self.hashes.append(hashes)
        self.characters.append(characters)


def _word_bounds(runs: Runs, shapes: Shapes, counts: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """First byte of each word, and the byte after its last, in the runs laid side by side."""
    starts = shapes.kept.take(np.repeat(shapes.starts, counts) + offsets)
    ends = np.empty_like(starts)
    ends[:-1] = starts[1:]
    ends[np.cumsum(counts) - 1] = runs.ends
    return starts, ends


def _characters(flat: Bytes, starts: Ints, ends: Ints) -> Ints:
    continues = np.flatnonzero((flat & 0xC0) == 0x80)
    if not len(continues):
        return ends - starts
    return ends - starts - (np.searchsorted(continues, ends) - np.searchsorted(continues, starts))


def _stop_words(hashes: Hashes, bounds: Ints) -> npt.NDArray[np.uint16]:
    """[R] a bit for every stop word among a run's words."""
    known = _hashes_of(STOP_WORDS)
    order = np.argsort(known)
    place = order.take(np.searchsorted(known[order], hashes), mode="clip")
    found = np.flatnonzero(known.take(place) == hashes)
    marks = np.zeros(len(bounds), np.uint16)
    owner = np.searchsorted(bounds, found, side="right") - 1
    np.bitwise_or.at(marks, owner, np.left_shift(1, place[found]).astype(np.uint16))
    return marks


@cache
def _hashes_of(words: tuple[str, ...]) -> Hashes:
    flat = np.frombuffer("".join(words).encode() + bytes(PADDING), np.uint8)
    lengths = np.array([len(word) for word in words])
    ends = np.cumsum(lengths)
    return span_hashes(flat, ends - lengths, ends)


def _mentions(runs: Runs) -> npt.NDArray[np.uint16]:
    """[R] marks of the runs that hold "javascript", or a word that may begin a phrase that C4 looks for."""
    lower = runs.flat.tobytes().lower()
    marks = np.zeros(len(runs.starts), np.uint16)
    for word in (b"javascript", *_PHRASE_WORDS):
        place = lower.find(word)
        found: list[int] = []
        while place >= 0:
            found.append(place)
            place = lower.find(word, place + 1)
        if found:
            marks[np.searchsorted(runs.starts, found, side="right") - 1] |= (
                JAVASCRIPT if word == b"javascript" else PHRASE
            )
    return marks

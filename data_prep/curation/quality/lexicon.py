"""What is known about every word seen so far, so that a word is looked at once and then only counted."""

import unicodedata

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.characters import PUNCTUATION, SENTENCE_ENDS
from data_prep.curation.quality.chunks import split_chunk

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SYMBOL, ALPHABETIC, ENDS_SENTENCE, PUNCTUATES = 1, 2, 4, 8
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
FIRST_STOP_BIT = 4
MOST_CHUNKS = 1_000_000
BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(BASE, -1, 1 << 64)


class Lexicon:
    """Runs of non-space characters, the words each consists of, and each word's length, properties and hash.

    It holds no more than about a million runs: a full one is emptied between two batches. No measure depends on what
    it held before, so the order of the batches does not matter.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._chunks: dict[bytes, int] = {}
        self._words: dict[str, int] = {}
        self._split: list[int] = []
        self._starts: list[int] = [0]
        self._lengths: list[int] = []
        self._flags: list[int] = []
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self._frozen: tuple[Ints, Ints, Ints, npt.NDArray[np.uint16]] | None = None

    def chunk_numbers(self, chunks: list[bytes]) -> Ints:
        """The numbers of runs given as UTF-32; new ones are split and noted."""
        if len(self._chunks) > MOST_CHUNKS:
            self.clear()
        known = self._chunks
        for chunk in chunks:
            if chunk not in known:
                known[chunk] = len(known)
                self._note(chunk.decode("utf-32-le", "surrogatepass"))
        return np.fromiter(map(known.__getitem__, chunks), np.int64, len(chunks))

    def arrays(self) -> tuple[Ints, Ints, Ints, npt.NDArray[np.uint16], Hashes]:
        """Starts of each run's words, all those words' numbers; each word's length, flags and polynomial hash."""
        if self._frozen is None:
            self._frozen = (
                np.asarray(self._starts, np.int64),
                np.asarray(self._split, np.int64),
                np.asarray(self._lengths, np.int64),
                np.asarray(self._flags, np.uint16),
            )
            known = len(self._hashes)
            fresh = list(self._words)[known:]
            self._hashes = np.concatenate([self._hashes, word_hashes(fresh)])
        return (*self._frozen, self._hashes)

    def _note(self, chunk: str) -> None:
        for word in split_chunk(chunk):
            number = self._words.get(word)
            if number is None:
                number = self._words[word] = len(self._words)
                self._lengths.append(len(word))
                self._flags.append(_flags(word))
            self._split.append(number)
        self._starts.append(len(self._split))
        self._frozen = None


def powers(base: int, count: int) -> Hashes:
    """base⁰ … base^(count-1) modulo 2⁶⁴."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def inverse_powers(count: int) -> Hashes:
    """The inverses of `powers(BASE, count)`."""
    return powers(_INVERSE, count)


def mixed(values: npt.NDArray[np.integer]) -> Hashes:
    """A well spread 64-bit number for every number (the finaliser of splitmix64)."""
    hashes = values.astype(np.uint64) + np.uint64(BASE)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def word_hashes(words: list[str]) -> Hashes:
    """Σ mixed(characterⱼ)·BASEʲ of each word, so that hashes of neighbours can be joined into that of their text."""
    if not words:
        return np.zeros(0, np.uint64)
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.cumsum(lengths)
    totals = np.concatenate([[np.uint64(0)], np.cumsum(mixed(codes) * powers(BASE, len(codes)))])
    starts = ends - lengths
    return (totals[ends] - totals[starts]) * inverse_powers(len(codes) + 1)[starts]


def _flags(word: str) -> int:
    flags = 0
    if word.isalpha():
        flags = ALPHABETIC
    else:
        flags |= SYMBOL * all(character in PUNCTUATION for character in word)
        flags |= ALPHABETIC * any(map(str.isalpha, word))
        flags |= PUNCTUATES * all(unicodedata.category(character).startswith("P") for character in word)
        flags |= ENDS_SENTENCE * (word in SENTENCE_ENDS)
    if word in STOP_WORDS:
        flags |= 1 << (FIRST_STOP_BIT + STOP_WORDS.index(word))
    return flags

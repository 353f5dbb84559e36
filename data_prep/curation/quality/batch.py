"""One tokenisation of a batch of texts, shared by all rules: arrays of bytes, runs, words, and their bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.characters import SPACES, byte_kinds
from data_prep.curation.quality.hashing import PADDING, Bytes, Hashes, Ints, span_hashes
from data_prep.curation.quality.lexicon import Lexicon
from data_prep.curation.quality.splits import expand

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """D documents joined by line breaks: B bytes of UTF-8, K runs of non-space characters, W words; bounds half open.

    Each document is followed by a line break that does not belong to it, and another one stands before the first.
    """

    joined: bytes
    """The documents and their line breaks, then PADDING spaces."""

    kinds: Bytes
    """[B] classes of characters: each byte of a character has its class."""

    is_space: Flags
    """[B] which bytes are space."""

    starts: Ints
    """[D] first byte of each document."""

    ends: Ints
    """[D] the byte after its last."""

    characters: Ints
    """[D] characters of each document."""

    run_starts: Ints
    """[K] first byte of each run."""

    run_ends: Ints
    """[K] the byte after its last."""

    run_hashes: Hashes
    """[K] equal for equal runs."""

    numbers: Ints
    """[K] the lexicon's number of each run."""

    marks: npt.NDArray[np.uint16]
    """[K] the lexicon's marks of each run."""

    document_runs: Ints
    """[D + 1] first run of each document."""

    document_words: Ints
    """[D + 1] first word of each document."""

    places: Ints
    """[W] each word's place in the lexicon's columns per word."""

    lexicon: Lexicon
    """What is known about the runs and words; valid until the next batch is tokenised."""

    @cached_property
    def continuations(self) -> Ints:
        """Bytes that begin no character."""
        if self.joined.isascii():
            return np.zeros(0, np.int64)
        return np.flatnonzero((np.frombuffer(self.joined, np.uint8) & 0xC0) == 0x80)

    @cached_property
    def _hash_sums(self) -> Hashes:
        sums = np.zeros(len(self.run_hashes) + 1, np.uint64)
        np.cumsum(self.run_hashes, out=sums[1:])
        return sums

    @cached_property
    def newlines(self) -> Ints:
        """Every byte that is a line feed, those behind the documents too."""
        return np.flatnonzero(self.kinds == ord("\n"))

    def count_characters(self, starts: Ints, ends: Ints) -> Ints:
        """[N] characters of spans of bytes."""
        if not len(self.continuations):
            return ends - starts
        inside = np.searchsorted(self.continuations, ends) - np.searchsorted(self.continuations, starts)
        return ends - starts - inside

    def span_keys(self, starts: Ints, ends: Ints) -> Hashes:
        """[N] hashes: equal spans have equal keys. Unequal ones may, too, when the same runs stand in another order."""
        first, last = np.searchsorted(self.run_starts, starts), np.searchsorted(self.run_starts, ends)
        return self._hash_sums.take(last) - self._hash_sums.take(first)

    def text(self, start: int, end: int) -> str:
        """What a span of bytes spells."""
        return self.joined[start:end].decode("utf-8", "surrogatepass")

    def document_of_runs(self, runs: Ints) -> Ints:
        """[N] the documents that runs belong to."""
        return np.searchsorted(self.document_runs, runs, side="right") - 1


def tokenise(texts: Sequence[str], lexicon: Lexicon) -> Batch:
    """The batch of `texts`. Takes about 40 bytes per byte of text while it lives."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    joined = b"\n".join([b"", *parts, b" " * PADDING])
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    ends = np.cumsum(sizes + 1)
    starts = ends - sizes
    buffer = np.frombuffer(joined, np.uint8)
    kinds = byte_kinds(joined)
    space = np.frombuffer((joined if kinds is buffer else kinds.tobytes()).translate(SPACES), np.bool_)
    edges = np.flatnonzero(space[1:] != space[:-1])
    edges += 1
    run_starts, run_ends = np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2])
    hashes = span_hashes(buffer, run_starts, run_ends)
    numbers = lexicon.numbers(buffer, run_starts, run_ends, hashes)
    counts = lexicon.count.values.take(numbers)
    document_runs = np.searchsorted(run_starts, np.append(starts, len(joined)))
    words = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(counts, out=words[1:])
    return Batch(
        joined, kinds, space, starts, ends, np.fromiter(map(len, texts), np.int64, len(parts)),
        run_starts, run_ends, hashes, numbers, lexicon.marks.values.take(numbers), document_runs,
        words[document_runs], expand(lexicon.first.values.take(numbers), counts), lexicon,
    )  # fmt: skip


def sums(values: npt.NDArray[Any], bounds: Ints) -> Ints:
    """[N] sums of integers or flags between neighbouring bounds [N + 1]."""
    kind = np.uint64 if values.dtype == np.uint64 else np.int64
    return reduced(np.add, values, bounds, kind)


def reduced(reduce: np.ufunc, values: npt.NDArray[Any], bounds: Ints, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """[N] values between neighbouring bounds [N + 1] brought together; 0 where there are none."""
    result = np.zeros(len(bounds) - 1, kind)
    filled = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(filled):
        result[filled] = reduce.reduceat(values[: bounds[-1]], bounds[filled], dtype=kind)
    return result


def counted(positions: Ints, starts: Ints, ends: Ints) -> Ints:
    """How many of the ascending positions lie in each half-open span."""
    return np.searchsorted(positions, ends) - np.searchsorted(positions, starts)


def share(parts: npt.NDArray[Any], wholes: npt.NDArray[Any]) -> Floats:
    """parts / wholes; NaN, which fails no rule, where there is nothing to share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wholes == 0, np.nan, np.true_divide(parts, wholes))

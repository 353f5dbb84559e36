"""One tokenisation of a batch of texts, shared by all rules: arrays of characters, runs, words, and their bounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.curation.quality.characters import IS_SPACE, kinds
from data_prep.curation.quality.lexicon import Hashes, Ints, Lexicon

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """D documents joined by line breaks: C characters, K runs of non-space characters, W words; bounds half open."""

    text: str
    """The joined documents, each followed by a line break that does not belong to it."""

    codes: npt.NDArray[np.uint32]
    """[C] code points."""

    kinds: npt.NDArray[np.uint8]
    """[C] classes of characters."""

    starts: Ints
    """[D] first character of each document."""

    ends: Ints
    """[D] the character after its last."""

    chunk_starts: Ints
    """[K] first character of each run."""

    chunk_ends: Ints
    """[K] the character after its last."""

    chunk_words: Ints
    """[K + 1] first word of each run."""

    words: Ints
    """[W] word numbers; equal numbers are equal words."""

    lengths: Ints
    """[W] characters of each word."""

    flags: npt.NDArray[np.uint16]
    """[W] the lexicon's flags."""

    hashes: Hashes
    """[W] polynomial hashes that can be joined."""

    document_words: Ints
    """[D + 1] first word of each document."""

    @property
    def characters(self) -> Ints:
        """[D] characters of each document."""
        return self.ends - self.starts


def tokenise(texts: Sequence[str], lexicon: Lexicon) -> Batch:
    """The batch of `texts`. Takes about 40 bytes per character while it lives."""
    text = "\n".join([*texts, ""])
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = kinds().take(codes)
    ends = np.cumsum(np.fromiter((len(document) + 1 for document in texts), np.int64, len(texts))) - 1
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(texts)]
    space = IS_SPACE.take(kind)
    edges = np.flatnonzero(np.diff(space, prepend=True, append=True))
    chunk_starts, chunk_ends = edges[::2], edges[1::2]
    numbers = _chunk_numbers(codes, chunk_starts, chunk_ends, lexicon)
    word_starts, split, lengths, flags, hashes = lexicon.arrays()
    chunk_words, words = _expand(numbers, word_starts, split)
    first_chunks = np.searchsorted(chunk_starts, np.append(starts, len(codes)))
    return Batch(
        text, codes, kind, starts, ends, chunk_starts, chunk_ends, chunk_words, words,
        lengths.take(words), flags.take(words), hashes.take(words), chunk_words[first_chunks],
    )  # fmt: skip


def span_numbers(codes: npt.NDArray[np.uint32], starts: Ints, ends: Ints) -> Ints:
    """Equal spans of characters get equal numbers. Spans ascend without overlap."""
    if not len(starts):
        return np.zeros(0, np.int64)
    # Spans and the gaps between them take turns, so that the characters need not be copied.
    offsets = np.stack([starts, ends], axis=1).ravel() * codes.itemsize
    values = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(codes)]
    )
    return values.dictionary_encode().indices.to_numpy().astype(np.int64)[::2]


def sums(values: npt.NDArray[np.generic], bounds: Ints) -> Ints:
    """[N] sums of integers or flags between neighbouring bounds [N + 1]."""
    totals = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=totals[1:])
    return totals[bounds[1:]] - totals[bounds[:-1]]


def counted(positions: Ints, starts: Ints, ends: Ints) -> Ints:
    """How many of the ascending positions lie in each half-open span."""
    return np.searchsorted(positions, ends) - np.searchsorted(positions, starts)


def share(parts: npt.NDArray[np.generic], wholes: npt.NDArray[np.generic]) -> Floats:
    """parts / wholes; NaN, which fails no rule, where there is nothing to share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wholes == 0, np.nan, np.true_divide(parts, wholes))


def _chunk_numbers(codes: npt.NDArray[np.uint32], starts: Ints, ends: Ints, lexicon: Lexicon) -> Ints:
    if not len(starts):
        return np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(ends - starts)]) * codes.itemsize
    inside = np.zeros(len(codes) + 1, np.int8)
    inside[starts] = 1
    inside[ends] -= 1
    letters = codes[np.cumsum(inside[:-1], dtype=np.int8).view(np.bool_)]
    values = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
    )
    encoded = values.dictionary_encode()
    numbers = lexicon.chunk_numbers(encoded.dictionary.to_pylist())
    return numbers.take(encoded.indices.to_numpy())


def _expand(numbers: Ints, word_starts: Ints, split: Ints) -> tuple[Ints, Ints]:
    """First word of each run in the batch [K + 1], and the number of every word [W]."""
    first = word_starts.take(numbers)
    counts = word_starts.take(numbers + 1) - first
    bounds = np.concatenate([[0], np.cumsum(counts)])
    places = np.repeat(first - bounds[:-1], counts) + np.arange(bounds[-1])
    return bounds, split.take(places)

"""Exact similarity of proposed pairs, on their sets of shingle hashes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.candidates import distinct
from data_prep.curation.near_dedup.shingles import shingle
from data_prep.curation.near_dedup.words import Positions
from data_prep.progress import Track, silent

SHINGLES_AT_ONCE = 1_000_000
"""Shingles of all pairs compared at once: bounds the memory (about 100 bytes each)."""


@dataclass(frozen=True)
class Similarities:
    """Per pair (a, b): sizes of the intersection and of both sets of shingles."""

    shared: Positions
    first: Positions
    second: Positions

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """Intersection over union."""
        return self.shared / (self.first + self.second - self.shared)

    @property
    def containment(self) -> NDArray[np.float64]:
        """Share of the second text's shingles that the first has."""
        return self.shared / self.second

    def part(self, where: NDArray[np.bool_]) -> "Similarities":
        """Those of some pairs."""
        return Similarities(self.shared[where], self.first[where], self.second[where])

    def followed_by(self, others: "Similarities") -> "Similarities":
        """Those of these pairs and of others after them."""
        parts = ((self.shared, others.shared), (self.first, others.first), (self.second, others.second))
        return Similarities(*map(np.concatenate, parts))

    def swapped(self, where: NDArray[np.bool_]) -> "Similarities":
        """The same with first and second exchanged for some pairs."""
        first, second = np.where(where, self.second, self.first), np.where(where, self.first, self.second)
        return Similarities(self.shared, first, second)


def compare(
    texts: Sequence[str], pairs: NDArray[np.int64], sizes: Positions, words: int, track: Track = silent
) -> Similarities:
    """Compare texts exactly (up to collisions of 64-bit hashes).

    Shingles are computed anew for the texts of the pairs, so that an index need not hold them.

    Args:
        texts: all texts.
        pairs: (pairs, 2) positions in `texts`.
        sizes: number of shingles of each text, for the bound of the memory.
        words: words per shingle.
        track: shows the progress.
    """
    counts = np.empty((len(pairs), 3), dtype=np.int64)
    order = _by_cluster(pairs, len(texts))
    parts = list(_parts(sizes[pairs[order]].sum(axis=1)))
    for part in track(parts, "near duplicates: exact comparison", total=len(parts)):
        chosen = order[part]
        counts[chosen] = _compare(texts, pairs[chosen], words)
    return Similarities(counts[:, 0], counts[:, 1], counts[:, 2])


def clusters(pairs: NDArray[np.int64], total: int) -> Positions:
    """Number of the connected component of each of `total` nodes (scipy's union-find)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(total, total))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _by_cluster(pairs: NDArray[np.int64], total: int) -> Positions:
    """An order in which pairs with texts in common are close, so that few texts are shingled twice."""
    return np.lexsort((pairs[:, 1], pairs[:, 0], clusters(pairs, total)[pairs[:, 0]]))


def _parts(work: Positions) -> Iterator[slice]:
    ends, start = np.cumsum(work), 0
    while start < len(work):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + SHINGLES_AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _compare(texts: Sequence[str], pairs: NDArray[np.int64], words: int) -> NDArray[np.int64]:
    """(pairs, 3): shared, first, second."""
    rows, flat_at = np.unique(pairs, return_inverse=True)
    at = flat_at.reshape(pairs.shape)
    values, offsets = _sets([texts[int(row)] for row in rows], words)
    lengths = np.diff(offsets)
    sizes = lengths[at]
    flat = np.repeat(offsets[:-1][at].ravel(), sizes.ravel())
    flat += np.arange(len(flat)) - np.repeat(np.cumsum(sizes.ravel()) - sizes.ravel(), sizes.ravel())
    pair = np.repeat(np.arange(len(pairs)), sizes.sum(axis=1))
    elements = np.sort(pair * (values.max() + 1) + values[flat])
    again = elements[1:][elements[1:] == elements[:-1]] // (values.max() + 1)
    return np.column_stack((np.bincount(again, minlength=len(pairs)), sizes))


def _sets(texts: Sequence[str], words: int) -> tuple[Positions, Positions]:
    """The set of shingles of each text, one after the other, as small numbers that stand for the hashes."""
    shingles = shingle(texts, words)
    unique, numbers = np.unique(shingles.hashes, return_inverse=True)
    text = np.repeat(np.arange(len(texts)), np.diff(shingles.offsets))
    elements = distinct(text * len(unique) + numbers)
    offsets = np.searchsorted(elements, np.arange(len(texts) + 1) * len(unique))
    return elements % len(unique), offsets

"""Measure: which rows are equal, and which pairs are alike by how much. Independent of what is then decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.arrays import load_arrays, save_arrays
from data_prep.curation.near_dedup.candidates import bands, least_equal, promising, propose
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.signatures import Signatures
from data_prep.curation.near_dedup.verify import Similarities, compare
from data_prep.curation.near_dedup.words import Positions
from data_prep.progress import Track, silent

PAIR = np.dtype([(name, "<i4") for name in ("first", "second", "shared", "first_size", "second_size")])
COMPARED_AT_ONCE = 16_384


@dataclass(frozen=True)
class NearPairs:
    """Equal rows and verified pairs: 4 bytes per row and 20 per pair."""

    leader: NDArray[np.int32]
    """Per row, the row that stands for all with the same shingles as often: itself for most."""
    verified: NDArray[Any]
    """(pairs,) of type PAIR: two leaders, first < second, the number of shingles they share, and of each of them."""
    search_from: float
    """Pairs from this Jaccard similarity on are in `verified`."""
    search_containment_from: float | None
    """Pairs from this containment on, of either row in the other, are too; null: only those by Jaccard."""

    @property
    def similarities(self) -> Similarities:
        """The sizes of the verified pairs."""
        sizes = (self.verified[name].astype(np.int64) for name in ("shared", "first_size", "second_size"))
        return Similarities(*sizes)

    def save(self, path: Path) -> None:
        """Write one file; the same pairs are the same bytes."""
        contained = np.nan if self.search_containment_from is None else self.search_containment_from
        save_arrays(path, np.array([self.search_from, contained]), self.leader, self.verified)


def load_pairs(path: Path) -> NearPairs:
    """The pairs that `NearPairs.save` wrote; DataError where the file is cut off."""
    searched, leader, verified = load_arrays(path, 3)
    search_from, contained = searched.tolist()
    return NearPairs(leader, verified, search_from, None if np.isnan(contained) else contained)


def search_order(
    index: Signatures, split_rank: NDArray[Any] | None = None, position: NDArray[Any] | None = None
) -> Positions:
    """All rows in the order in which they are searched: by split, the longest first, then by position.

    It decides only what is compared in buckets larger than the window. It must not hang on decisions, or another
    threshold of another step would find other pairs.

    Args:
        index: the signatures.
        split_rank: (rows,) the lowest first; left out: all alike.
        position: (rows,) each value once, independent of shards; left out: the number of the row.
    """
    rows = len(index.records)
    splits = np.zeros(rows, dtype=np.int8) if split_rank is None else split_rank
    return np.lexsort((np.arange(rows) if position is None else position, -index.characters, splits))


def find_pairs(
    index: Signatures, texts: Sequence[str], config: NearDedup, order: Positions, track: Track = silent
) -> NearPairs:
    """Search all pairs from `config.search_from` on: LSH proposes, the exact sets of shingles decide.

    Args:
        index: signatures of all rows.
        texts: the compared text of each row, read on demand: only rows that are in a promising pair, mostly once, and
            in ascending order within a part of the work.
        config: the settings.
        order: all rows, as `search_order` gives them.
        track: shows the progress.
    """
    leader = equal_rows(index, order, comparable := _comparable(index, config))
    rows = order[(leader[order] == order) & comparable[order]]
    shape = bands(config.permutations, config.search_from, config.proposal_probability)
    by_jaccard = config.search_containment_from is None
    least = least_equal(config.permutations, config.search_from) if by_jaccard else 0
    pairs = propose(index.matrix, rows, shape, config.bucket_window, least, track)
    pairs = rows[pairs[promising(index.matrix, rows, pairs, config.bucket_window)]]
    pairs.sort(axis=1)
    verified = _verified(texts, pairs, index.sizes, config, track)
    return NearPairs(leader.astype(np.int32), verified, config.search_from, config.search_containment_from)


def equal_rows(index: Signatures, order: Positions, comparable: NDArray[np.bool_]) -> Positions:
    """Per row, the first row in `order` with the same shingles as often: itself for most."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    sorted_rows = np.lexsort((rank, index.sizes, index.fingerprints))
    earlier, later = sorted_rows[:-1], sorted_rows[1:]
    prints, sizes = index.fingerprints, index.records["shingles"]
    same = (prints[earlier] == prints[later]) & (sizes[earlier] == sizes[later]) & comparable[later]
    # A second opinion of 128 other hashes: rows are never removed on one 64-bit sum.
    alike = np.flatnonzero(same)
    for start in range(0, len(alike), COMPARED_AT_ONCE):
        part = alike[start : start + COMPARED_AT_ONCE]
        same[part] = (index.matrix[earlier[part]] == index.matrix[later[part]]).all(axis=1)
    begins = np.concatenate((np.ones(min(len(order), 1), dtype=bool), ~same))
    leader = np.empty_like(order)
    leader[sorted_rows] = sorted_rows[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return leader


def _comparable(index: Signatures, config: NearDedup) -> NDArray[np.bool_]:
    """An empty prompt or completion says nothing about its row."""
    if config.on == "row":
        return np.ones(len(index.records), dtype=bool)
    return index.records["characters"] > 0


def _verified(
    texts: Sequence[str], pairs: NDArray[np.int64], sizes: Positions, config: NearDedup, track: Track
) -> NDArray[Any]:
    found = compare(texts, pairs, sizes, config.words, track)
    similar = found.jaccard >= config.search_from
    if config.search_containment_from is not None:
        smaller = np.minimum(found.first, found.second)
        similar |= found.shared / smaller >= config.search_containment_from
    verified = np.empty(int(similar.sum()), dtype=PAIR)
    columns = (pairs[similar, 0], pairs[similar, 1], found.shared[similar], found.first[similar], found.second[similar])
    for name, column in zip(PAIR.names or (), columns, strict=True):
        verified[name] = column
    return verified[np.lexsort((verified["second"], verified["first"]))]

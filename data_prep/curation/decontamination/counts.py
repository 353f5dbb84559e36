"""How many training rows have an n-gram without holding its item: what shows boilerplate.

A famous quotation stands in many rows, and no row holds the rest of the item that quotes it too. Rows that hold the
item are leaks, however many they are: an evaluation that was copied into the training data a thousand times does not
become boilerplate by that.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.index import COMMON, Index
from data_prep.curation.decontamination.matches import Match
from data_prep.curation.near_dedup.words import Positions
from data_prep.rows import write_whole

HELD_SHARE = 0.98
"""A row with so much of an item holds it; with less, it may hold what the item quotes."""


@dataclass(frozen=True)
class Counts:
    """Counts of one shard, or of all: only n-grams that were met."""

    rows: int
    """Rows that were looked at."""
    grams: Positions
    """Numbers of n-grams of the index, sorted."""
    documents: Positions
    """Rows that have each of them outside of its items."""

    @classmethod
    def none(cls) -> "Counts":
        """The counts of no rows."""
        return cls(0, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    def save(self, path: Path) -> None:
        """Write to an .npz file, whole or not at all; equal counts give equal bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, rows=np.array(self.rows), grams=self.grams, documents=self.documents)
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Counts":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(int(file["rows"]), file["grams"], file["documents"])


def count(grams: Iterable[Positions], matches: Iterable[list[Match]], index: Index) -> Counts:
    """Counts over rows.

    Args:
        grams: per row, the distinct n-grams that it has.
        matches: per row, the items that it holds.
        index: the index.
    """
    outside = [_outside(row, held, index) for row, held in zip(grams, matches, strict=True)]
    numbers, documents = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *outside]), return_counts=True)
    return Counts(len(outside), numbers, documents)


def merge(parts: Iterable[Counts]) -> Counts:
    """The sum of the counts of shards, in any order."""
    all_parts = list(parts)
    empty = np.empty(0, dtype=np.int64)
    numbers, at = np.unique(np.concatenate([empty, *(part.grams for part in all_parts)]), return_inverse=True)
    documents = np.zeros(len(numbers), dtype=np.int64)
    np.add.at(documents, at, np.concatenate([empty, *(part.documents for part in all_parts)]))
    return Counts(sum(part.rows for part in all_parts), numbers, documents)


def boilerplate(counts: Counts, index: Index, config: Decontamination) -> NDArray[np.bool_]:
    """Per n-gram of the index, whether too many training rows have it outside of its items."""
    allowed = max(config.min_documents, config.max_document_share * counts.rows)
    dropped = np.zeros(len(index.arrays["grams"]), dtype=bool)
    dropped[counts.grams[counts.documents > allowed]] = True
    return dropped


def _outside(grams: Positions, held: list[Match], index: Index) -> Positions:
    for match in held:
        if match.share >= HELD_SHARE:
            start, end = index.arrays["offsets"][match.unit : match.unit + 2].tolist()
            own = index.arrays["gram_at"][start:end]
            grams = np.setdiff1d(grams, own[own < COMMON].astype(np.int64))
    return grams

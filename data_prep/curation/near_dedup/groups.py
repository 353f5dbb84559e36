"""Which rows of the verified pairs are kept, and what the removal costs each source."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.words import Positions

KEPT = -1


@dataclass(frozen=True)
class NearDuplicates:
    """What is known about each row. Arrays over all rows."""

    duplicate_of: Positions
    """The row that is kept and most similar to this one; -1 for a row that is kept."""
    similarity: NDArray[np.float64]
    """Exact Jaccard similarity to that row; NaN for a row that is kept."""
    containment: NDArray[np.float64]
    """Share of the row's shingles that that row has; NaN for a row that is kept."""
    group: Positions
    """The first row, in the order of `keep`, of all rows linked by verified pairs; a group may keep several rows."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether a row is kept."""
        return self.duplicate_of == KEPT

    def of(self, row: int) -> tuple[int, float] | None:
        """The kept row that `row` repeats and their similarity; None for a row that is kept."""
        other = int(self.duplicate_of[row])
        return None if other == KEPT else (other, float(self.similarity[row]))

    def loss_shares(self, sources: Sequence[Hashable]) -> dict[Hashable, float]:
        """The share of its rows that each source loses, in the order of their first rows; `sources`: one per row."""
        rows, lost = dict[Hashable, int](), dict[Hashable, int]()
        for source, kept in zip(sources, self.kept.tolist(), strict=True):
            rows[source] = rows.get(source, 0) + 1
            lost[source] = lost.get(source, 0) + (not kept)
        return {source: lost[source] / rows[source] for source in rows}

    def alarms(self, sources: Sequence[Hashable], alarm_share: float) -> dict[Hashable, float]:
        """The sources that lose more than `alarm_share` of their rows, and how much."""
        return {source: share for source, share in self.loss_shares(sources).items() if share > alarm_share}


def choose(pairs: NDArray[np.int64], total: int) -> NDArray[np.bool_]:
    """Which of `total` rows are kept: in their order, each that has no verified pair with a kept row before it.

    Args:
        pairs: verified pairs (earlier, later) of positions in the order of the rows.
        total: number of rows.
    """
    kept = np.ones(total, dtype=bool)
    ordered = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    for earlier, later in ordered.tolist():  # sequential by nature: whether a row is kept hangs on all before it
        if kept[earlier]:
            kept[later] = False
    return kept


def nearest(pairs: NDArray[np.int64], similarity: NDArray[np.float64], kept: NDArray[np.bool_]) -> Positions:
    """Per row that is not kept, its pair with the most similar kept row (of equals, the first); else -1."""
    usable = np.flatnonzero(kept[pairs[:, 0]] & ~kept[pairs[:, 1]])
    earlier, later = pairs[usable].T
    usable = usable[np.lexsort((earlier, -similarity[usable], later))]
    rows, first = np.unique(pairs[usable, 1], return_index=True)
    chosen = np.full(len(kept), KEPT, dtype=np.int64)
    chosen[rows] = usable[first]
    return chosen

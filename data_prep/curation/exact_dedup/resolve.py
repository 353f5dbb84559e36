"""Equal keys over all shards: which row each repeats."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.arrays import joined, save_arrays
from data_prep.curation.exact_dedup.keys import KEY
from data_prep.curation.exact_dedup.order import Positions


def save_keys(keys: NDArray[Any], path: Path) -> None:
    """Write the keys of a shard (.npy; the same keys are the same bytes)."""
    save_arrays(path, keys)


def load_keys(paths: list[Path]) -> NDArray[Any]:
    """The keys of all shards, one after the other: 16 bytes per row."""
    return joined(paths, KEY)


def resolve(keys: NDArray[Any], order: Positions) -> Positions:
    """Per row, the row that is kept of those with its key; -1 for a row that is kept.

    Needs about 50 bytes per row beside the keys.

    Args:
        keys: (rows,) of type KEY.
        order: all rows, those to keep first (`keep_order`).
    """
    ordered = keys[order]
    # Stable sorts: rows of one key stay in the order of keeping.
    by_key = np.lexsort((ordered["high"], ordered["low"]))
    ordered = ordered[by_key]
    begins = np.ones(len(ordered), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    begins |= (ordered["high"] == 0) & (ordered["low"] == 0)
    rows = order[by_key]
    kept = rows[np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))]
    duplicate_of = np.empty(len(rows), dtype=np.int64)
    duplicate_of[rows] = np.where(begins, -1, kept)
    return duplicate_of

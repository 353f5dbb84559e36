"""Which of several alike rows is kept: one order of all rows, the best first, for exact and near duplicates."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError

Positions = NDArray[np.int64]


def keep_order(
    fails_other_steps: NDArray[np.bool_], split_rank: NDArray[Any], measure: NDArray[Any], position: NDArray[Any]
) -> Positions:
    """All rows, those to keep first.

    What another step drops comes last, so that it never takes a good row with it; then the splits by their rank (test,
    validation, train: training must not hold a row of the evaluation); then the lowest measure; then the position.

    Args:
        fails_other_steps: (rows,) whether another step drops the row.
        split_rank: (rows,) the lowest is kept first.
        measure: (rows,) the lowest is kept first; `measure_of` makes it.
        position: (rows,) settles ties: each value once, and independent of shards, as the place in the sorted input.

    Returns:
        (rows,) row numbers.
    """
    return np.lexsort((position, measure, split_rank, fails_other_steps))


def measure_of(keep: str, characters: NDArray[Any], values: Sequence[Any] | None = None) -> NDArray[Any]:
    """The measure of `keep_order` for a rule.

    Args:
        keep: `longest`, `first`, `best` or `earliest`.
        characters: (rows,) lengths of the compared texts.
        values: one per row; scores for `best` (the highest is kept), dates or numbers for `earliest` (the lowest; dates
            as ISO 8601 sort as text). None and NaN come last.

    Raises:
        DataError: values are missing, too few, or of types that have no common order.
    """
    if keep == "longest":
        return -np.asarray(characters, dtype=np.int64)
    if keep == "first":
        return np.zeros(len(characters), dtype=np.int8)
    if values is None or len(values) != len(characters):
        given = "none" if values is None else len(values)
        raise DataError(f"keep: {keep} needs a value for each of {len(characters)} rows, {given} given; see the field")
    if keep == "earliest":
        return _ranks(values)
    scores = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isnan(scores), np.inf, -scores)


def _ranks(values: Sequence[Any]) -> Positions:
    usable = {value for value in values if value is not None and not (isinstance(value, float) and math.isnan(value))}
    try:
        ranks = {value: rank for rank, value in enumerate(sorted(usable))}
    except TypeError as error:
        raise DataError(f"keep: earliest has values without a common order ({error}); give one type") from error
    return np.fromiter((ranks.get(value, len(ranks)) for value in values), dtype=np.int64, count=len(values))

"""How many rows each data set gives to a mixture: exact numbers, by the largest remainder (Hamilton's method)."""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

from data_prep.config import Mixture
from data_prep.errors import DataError


def rows_of_parts(config: Mixture, available: Mapping[str, int]) -> dict[str, int]:
    """The training rows that each part gives; DataError when it cannot be done as asked.

    Args:
        config: the mixture.
        available: training rows of each data set.
    """
    empty = [name for name in sorted(available) if not available[name]]
    if empty:
        raise DataError(f"mixture: {empty[0]} has no training rows; take it out of the parts")
    fixed = {
        name: _nearest(_exact(1 if part.epochs is None else part.epochs) * available[name])
        for name, part in config.parts.items()
        if part.weight is None
    }
    weights = {name: _exact(part.weight) for name, part in config.parts.items() if part.weight is not None}
    if not weights:
        return fixed
    room = {
        name: floor(_exact(epochs) * available[name])
        for name in weights
        if (epochs := config.parts[name].epochs) is not None
    }
    return fixed | share_out(_total(config, weights, available, sum(fixed.values())), weights, room)


def share_out(total: int, weights: Mapping[str, Fraction], room: Mapping[str, int]) -> dict[str, int]:
    """`total` rows by weight, each part at most its `room`; what one part cannot take goes to the others."""
    given = dict[str, int]()
    while True:
        open_ = {name: weight for name, weight in weights.items() if name not in given}
        left = total - sum(given.values())
        shares = {name: left * weight / sum(open_.values()) for name, weight in open_.items()}
        full = {name: room[name] for name in open_ if name in room and shares[name] > room[name]}
        if not full:
            break
        given |= full
    if not shares and left:
        raise DataError(f"mixture.rows: the parts give {total - left:,} of {total:,} rows; raise their epochs")
    counts = {name: floor(share) for name, share in shares.items()}
    # The largest remainders first; equal ones by name, so that the order of the parts means nothing.
    for name in sorted(shares, key=lambda name: (counts[name] - shares[name], name))[: left - sum(counts.values())]:
        counts[name] += 1
    return given | counts


def _total(config: Mixture, weights: Mapping[str, Fraction], available: Mapping[str, int], fixed: int) -> int:
    if config.rows is not None:
        if config.rows <= fixed:
            advice = "raise rows, or lower the epochs"
            raise DataError(f"mixture.rows: the parts with epochs alone have {fixed:,} of {config.rows:,}; {advice}")
        return config.rows - fixed
    exhausted = [available[name] * sum(weights.values()) / weight for name, weight in weights.items()]
    return floor(min(exhausted)) if config.stop == "first_exhausted" else ceil(max(exhausted))


def _exact(number: float | None) -> Fraction:
    """The number as it was written, 0.1 as one tenth."""
    return Fraction(repr(number))


def _nearest(number: Fraction) -> int:
    return floor(number + Fraction(1, 2))

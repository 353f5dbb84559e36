"""Exact tests and intervals of shares: McNemar for pairs of 0/1, Wilson for one share."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from data_prep.errors import DataError


class McNemar(NamedTuple):
    """Pairs that only base has right, that only tuned has right, and the exact two-sided p."""

    lost: int
    won: int
    p: float


class Share(NamedTuple):
    """A share of n with its interval; NaN for none of none."""

    value: float
    low: float
    high: float
    n: int


def mcnemar(base: Sequence[bool | float], tuned: Sequence[bool | float]) -> McNemar:
    """McNemar's exact test (1947): the pairs in which two models differ, against a fair coin.

    p is the binomial probability of a split at least as uneven, both sides; 1 where the two never differ.
    """
    if len(base) != len(tuned) or not base:
        raise DataError(f"mcnemar: {len(base)} and {len(tuned)} outcomes; both models must answer the same items")
    if any(value not in (0, 1) for value in (*base, *tuned)):
        raise DataError("mcnemar: an outcome is neither 0 nor 1; give right or wrong for each item")
    lost = sum(1 for one, other in zip(base, tuned, strict=True) if one > other)
    won = sum(1 for one, other in zip(base, tuned, strict=True) if one < other)
    return McNemar(lost, won, _sign_test(lost, won))


def wilson(successes: float, n: int, confidence: float = 0.95) -> Share:
    """The score interval of a share (Wilson 1927): inside [0, 1], honest for few items and shares near the ends."""
    if not n:
        return Share(math.nan, math.nan, math.nan, 0)
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the formula gives the bound exactly but for rounding.
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Share(share, 0.0 if successes == 0 else low, 1.0 if successes == n else high, n)


def _sign_test(lost: int, won: int) -> float:
    """Two-sided binomial test at one half; logarithms, so that thousands of pairs do not overflow."""
    n, fewer = lost + won, min(lost, won)
    if lost == won:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2.0 * math.fsum(math.exp(log - n * math.log(2)) for log in logs))

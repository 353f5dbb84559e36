"""Paired statistics of two models on the same rows.

A measure is a function of column sums over rows: a mean is sum / count, bits per byte is Σ nll / Σ bytes, BLEU is a
function of summed n-gram counts. So one resampling serves them all, and ratios and corpus scores get honest intervals.

Shapes: N rows, K columns, R resamples.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from eval.config import StatisticsConfig

Measure = Callable[[np.ndarray], np.ndarray]
"""The measure of column sums: (..., K) → (...)."""

POWER = 0.8
_CHUNK_ELEMENTS = 2**21
"""Row weights held at once (16 MiB), so that memory does not grow with the number of resamples."""


class PairedTest(NamedTuple):
    """The two values, their difference tuned - base with its interval, and what the sample could have shown."""

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    detectable: float
    more_needed: int | None


class Resamples(NamedTuple):
    """Column sums of both models under the paired bootstrap and under random swaps of the two models, (R, K) each."""

    base: np.ndarray
    tuned: np.ndarray
    swapped_base: np.ndarray
    swapped_tuned: np.ndarray


def resample(base: np.ndarray, tuned: np.ndarray, config: StatisticsConfig) -> Resamples:
    """Resampled column sums of two (N, K) arrays whose rows are pairs; the seed alone decides on the draws."""
    both = np.hstack([base, tuned]).astype(np.float64)
    columns = base.shape[1]
    drawn = _bootstrap_sums(both, config.resamples, config.seed)
    swap = _swap_sums(tuned - base, config.resamples, config.seed + 1)
    base_sums, tuned_sums = base.sum(axis=0), tuned.sum(axis=0)
    return Resamples(drawn[:, :columns], drawn[:, columns:], base_sums + swap, tuned_sums - swap)


def paired_test(
    base: np.ndarray, tuned: np.ndarray, measure: Measure, resamples: Resamples, config: StatisticsConfig
) -> PairedTest:
    """Test one measure of two (N, K) arrays, on draws made by `resample` from the same arrays.

    The interval is that of the paired bootstrap (Efron 1979), see `bootstrap_interval`. p is two-sided, from random
    swaps of the two models within rows (sign flips, for a mean): (1 + hits) / (1 + R), never 0.
    """
    base_sums, tuned_sums = base.sum(axis=0), tuned.sum(axis=0)
    value_base, value_tuned = float(measure(base_sums)), float(measure(tuned_sums))
    difference = value_tuned - value_base
    draws = measure(resamples.tuned) - measure(resamples.base)
    low, high = bootstrap_interval(
        draws, difference, config, lambda: measure(tuned_sums - tuned) - measure(base_sums - base)
    )
    swapped = measure(resamples.swapped_tuned) - measure(resamples.swapped_base)
    error = float(np.std(draws, ddof=1))
    return PairedTest(
        base=value_base,
        tuned=value_tuned,
        difference=difference,
        low=low,
        high=high,
        p=p_value(difference, swapped),
        n=len(base),
        detectable=detectable_difference(error, config.confidence),
        more_needed=more_needed(difference, error, len(base), config.confidence),
    )


def bootstrap_interval(
    draws: np.ndarray, value: float, config: StatisticsConfig, leave_one_out: Callable[[], np.ndarray]
) -> tuple[float, float]:
    """The interval of a value from its R resamples, as the configuration asks: percentiles, or BCa.

    BCa (Efron 1987) moves the percentiles by the median bias of the draws and by the acceleration, the skewness of the
    N values of `leave_one_out`. Where all draws or all of these values are equal, or one is no number, it has no
    meaning, and the percentiles stand.
    """
    if config.interval == "bca":
        with np.errstate(divide="ignore", invalid="ignore"):
            values = leave_one_out()
        below = float(np.mean(draws < value) + np.mean(draws <= value)) / 2
        spread = values.mean() - values if len(values) else values
        if 0 < below < 1 and np.isfinite(spread).all() and np.any(spread):
            levels = _bca_levels(below, spread, config.confidence)
            low, high = np.quantile(draws, levels)
            return float(low), float(high)
    return percentile_interval(draws, config.confidence)


def _bca_levels(below: float, spread: np.ndarray, confidence: float) -> list[float]:
    """The two levels at which BCa reads off the draws; `below`: the share of them under the observed value."""
    normal = NormalDist()
    spread = spread / np.abs(spread).max()  # it has no unit, and powers of tiny numbers vanish
    acceleration = float(np.sum(spread**3) / (6 * np.sum(spread**2) ** 1.5))
    bias, levels = normal.inv_cdf(below), []
    for level in ((1 - confidence) / 2, (1 + confidence) / 2):
        moved = bias + normal.inv_cdf(level)
        levels.append(normal.cdf(bias + moved / (1 - acceleration * moved)))
    return levels


def cluster_sums(rows: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """(C, K) sums of rows of the same cluster, in the order of first appearance: the unit that is drawn and swapped.

    Answers to one prompt share what makes it hard; taken as independent, their intervals would be too narrow.
    """
    numbers: dict[str, int] = {}
    index = np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
    sums = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums


def percentile_interval(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central share `confidence` of some draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def p_value(observed: float, null: np.ndarray) -> float:
    """Two-sided Monte Carlo p-value (Phipson & Smyth 2010): the observed difference counts as one of the draws."""
    # Equal differences are added up in another order and may differ in their last bits.
    hits = int(np.count_nonzero(np.abs(null) >= abs(observed) * (1 - 1e-9)))
    return (1 + hits) / (1 + len(null))


def detectable_difference(standard_error: float, confidence: float, power: float = POWER) -> float:
    """The smallest true difference that a sample of this standard error shows with probability `power`."""
    return _quantiles(confidence, power) * standard_error


def more_needed(
    difference: float, standard_error: float, n: int, confidence: float, power: float = POWER
) -> int | None:
    """How many rows more it takes to show a true difference as large as the one observed with probability `power`.

    0 when there are enough; None when the two models do not differ at all, which no sample decides, and for a measure
    that overflows.
    """
    if difference == 0 or not math.isfinite(difference + standard_error):
        return None
    needed = n * (detectable_difference(standard_error, confidence, power) / abs(difference)) ** 2
    return max(0, math.ceil(needed - 1e-9) - n)


class Room(NamedTuple):
    """What a comparison could have shown, and how many more rows would decide it; None where nothing says so."""

    detectable: float | None
    more_needed: int | None


def room_of(test: PairedTest, confidence: float, hypotheses: int = 1) -> Room:
    """Of a test that is one of `hypotheses`: with which true difference, and with how many more rows, a verdict comes
    after Holm's correction with probability `POWER`. It is worked out at the level of Holm's first and strictest step.

    Rows that all changed alike, such as a single one, have no spread to say what they could show; but fewer rows than
    a sign test needs never decide.
    """
    level = (1 - confidence) / hypotheses
    error = test.detectable / detectable_difference(1.0, confidence)
    if error < 1e-9 * abs(test.difference):  # rounding of rows that all changed alike
        error = 0.0
    if test.difference == 0 and error == 0:
        return Room(None, None)
    least = max(0, 1 + math.ceil(math.log2(1 / level)) - test.n)  # two-sided: all of n rows on one side, 2 / 2**n
    more = more_needed(test.difference, error, test.n, 1 - level)
    detectable = detectable_difference(error, 1 - level) if error else None
    return Room(detectable, None if more is None else max(more, least))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: comparable with the level that a single test would have."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _quantiles(confidence: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)


def _bootstrap_sums(rows: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, K) column sums of N rows drawn with replacement, R times."""
    generator, n = np.random.default_rng(seed), len(rows)

    def weights(count: int) -> np.ndarray:
        drawn = generator.integers(0, n, size=(count, n)) + np.arange(count)[:, None] * n
        return np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)

    return _in_chunks(rows, resamples, weights)


def _swap_sums(differences: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, K) column sums of the differences of a random half of the rows: what a swap of the models moves."""
    generator, n = np.random.default_rng(seed), len(differences)

    def weights(count: int) -> np.ndarray:
        return generator.integers(0, 2, size=(count, n), dtype=np.int8).astype(np.float64)

    return _in_chunks(differences.astype(np.float64), resamples, weights)


def _in_chunks(rows: np.ndarray, resamples: int, weights: Callable[[int], np.ndarray]) -> np.ndarray:
    chunk = max(1, min(resamples, _CHUNK_ELEMENTS // len(rows)))
    counts = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    return np.vstack([weights(count) @ rows for count in counts])

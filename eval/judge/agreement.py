"""Cohen's kappa: agreement beyond chance of two raters who chose between the same categories."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError
from eval.config import StatisticsConfig
from eval.statistics import percentile_interval

OUTCOMES = ("tuned", "base", "tie")


class Agreement(NamedTuple):
    """Share of equal choices, and kappa with its interval; NaN where one category holds everything."""

    n: int
    share: float
    kappa: float
    low: float
    high: float


def cohen_kappa(first: Sequence[str], second: Sequence[str], config: StatisticsConfig) -> Agreement:
    """Kappa (Cohen 1960) of two lists of outcomes, with the percentile interval of a bootstrap over the items."""
    if len(first) != len(second) or not first:
        raise DataError(
            f"kappa: {len(first)} and {len(second)} labels; both raters must label the same items, at least 1"
        )
    unknown = sorted({*first, *second} - {*OUTCOMES})
    if unknown:
        raise DataError(f"kappa: label {unknown[0]!r} is unknown; allowed are {', '.join(OUTCOMES)}")
    index = {outcome: position for position, outcome in enumerate(OUTCOMES)}
    table = np.zeros((len(OUTCOMES), len(OUTCOMES)))
    for one, other in zip(first, second, strict=True):
        table[index[one], index[other]] += 1
    n = len(first)
    generator = np.random.default_rng(config.seed)
    draws = generator.multinomial(n, table.ravel() / n, size=config.resamples).reshape(-1, *table.shape)
    kappas = _kappa(draws / n)
    defined = kappas[~np.isnan(kappas)]
    low, high = percentile_interval(defined, config.confidence) if len(defined) else (float("nan"), float("nan"))
    return Agreement(n, float(np.trace(table)) / n, float(_kappa(table[None] / n)[0]), low, high)


def _kappa(tables: np.ndarray) -> np.ndarray:
    """(R,) kappas of tables (R, K, K) of shares."""
    observed = np.trace(tables, axis1=1, axis2=2)
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)

"""A fairness measure as columns that can be summed, its value with an interval, and its change from base to tuned.

Shapes: N rows (pairs, questions, terms or twins: whatever is drawn anew), K columns.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError
from eval.choice.statistics import mcnemar, wilson
from eval.config import StatisticsConfig
from eval.statistics import PairedTest, bootstrap_interval, holm, paired_test, resample, room_of

Entry = dict[str, float | int | str | None]


class Measure(NamedTuple):
    """A number about N rows: a function of column sums.

    `neutral` is its value without bias; None where more is better (accuracies). A `share` has columns hit and one.
    """

    name: str
    columns: np.ndarray
    function: Callable[[np.ndarray], np.ndarray]
    neutral: float | None = None
    share: bool = False


def share_of(name: str, hits: Sequence[bool | float], neutral: float | None = None) -> Measure:
    """The share of rows that hit."""
    columns = np.array([[float(hit), 1.0] for hit in hits]).reshape(-1, 2)
    return Measure(name, columns, lambda sums: sums[..., 0] / sums[..., 1], neutral, share=True)


def summarise(measures: Sequence[Measure], config: StatisticsConfig) -> dict[str, dict[str, float | int]]:
    """Name → {"value", "low", "high", "n"}: Wilson's interval for shares, the bootstrap's for others."""
    result: dict[str, dict[str, float | int]] = {}
    for measure in measures:
        n = len(measure.columns)
        if measure.share:
            result[measure.name] = wilson(float(measure.columns[:, 0].sum()), n, config.confidence)._asdict()
            continue
        sums = measure.columns.sum(axis=0)
        value = float(measure.function(sums))
        draws = measure.function(resample(measure.columns, measure.columns, config).base)
        without = functools.partial(measure.function, sums - measure.columns)
        low, high = bootstrap_interval(draws, value, config, without)
        result[measure.name] = {"value": value, "low": low, "high": high, "n": n}
    return result


def changes(base: Sequence[Measure], tuned: Sequence[Measure], config: StatisticsConfig) -> dict[str, Entry]:
    """Name → {"base", "tuned", "difference", "low", "high", "p", "p_holm", "n", "detectable", "more_needed",
    "neutral", "verdict"[, "won", "lost"]} of the same measures of two models on the same rows.

    The interval is the paired bootstrap's. p is McNemar's exact test for shares and the permutation test for the
    others, `p_holm` after Holm's correction over everything given here. The verdict of a measure with a neutral value
    is "less biased" or "more biased" (the tuned value lies nearer to it or farther from it), of the others "better" or
    "worse", where p_holm is significant and the interval excludes 0; otherwise "cannot tell".
    """
    if [one.name for one in base] != [one.name for one in tuned] or not base:
        raise DataError("fairness: base and tuned have different measures; score both on the same rows and settings")
    found = {one.name: _change(one, other, config) for one, other in zip(base, tuned, strict=True)}
    entries = {name: entry for name, (entry, _) in found.items()}
    corrected = holm([float(entry["p"] or 0.0) for entry in entries.values()])
    for (name, (entry, test)), p_holm, measure in zip(found.items(), corrected, base, strict=True):
        entry |= room_of(test, config.confidence, len(found))._asdict()
        significant = p_holm <= 1 - config.confidence and (
            float(entry["low"] or 0) > 0 or float(entry["high"] or 0) < 0
        )
        entry["p_holm"] = p_holm
        entry["verdict"] = _verdict(entry, measure.neutral) if significant else "cannot tell"
        if significant:
            entries[name]["more_needed"] = None
    return entries


def _change(base: Measure, tuned: Measure, config: StatisticsConfig) -> tuple[Entry, PairedTest]:
    if base.columns.shape != tuned.columns.shape:
        raise DataError(
            f"{base.name}: {len(base.columns)} rows of base and {len(tuned.columns)} of tuned; score the same rows"
        )
    test = paired_test(
        base.columns, tuned.columns, base.function, resample(base.columns, tuned.columns, config), config
    )
    entry: Entry = {**test._asdict(), "neutral": base.neutral}
    if base.share:
        exact = mcnemar(base.columns[:, 0].tolist(), tuned.columns[:, 0].tolist())
        entry |= exact._asdict()
    return entry, test


def _verdict(entry: Mapping[str, float | int | str | None], neutral: float | None) -> str:
    if neutral is None:
        return "better" if float(entry["difference"] or 0) > 0 else "worse"
    before, after = (abs(float(entry[name] or 0.0) - neutral) for name in ("base", "tuned"))
    if math.isclose(before, after):
        return "cannot tell"
    return "less biased" if after < before else "more biased"

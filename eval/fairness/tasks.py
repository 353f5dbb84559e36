"""Fairness measures of predictions folders: of one model, and their change between two.

They stand outside the correction of the other metrics: whether a fine-tune helped and whether it changed what the model
prefers about people are different questions, and each data set of the second kind has a correction of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.config import StatisticsConfig
from eval.fairness.bbq import bbq_measures, compare_bbq
from eval.fairness.config import PairConfig
from eval.fairness.groups import compare_groups, group_measures
from eval.fairness.measures import Entry, Measure
from eval.fairness.stereotypes import compare_pairs, pair_measures
from eval.predictions import predictions_path, read_policies
from eval.tasks import sorted_predictions

Rows = list[dict[str, Any]]
_VERDICTS = {"less biased": "better", "more biased": "worse"}

_MEASURES: dict[str, Callable[[Rows], list[Measure]]] = {"bbq": bbq_measures, "groups": group_measures}
_CHANGES: dict[str, Callable[[Rows, Rows, StatisticsConfig], dict[str, Entry]]] = {
    "bbq": compare_bbq,
    "groups": compare_groups,
}
FAIRNESS = ("pairs", "bbq", "groups")


def fairness_summary(folder: Path, dataset: str) -> dict[str, dict[str, float]]:
    """`<kind>/<data set>` → measure → value of one model."""
    result = {}
    for kind in _kinds(folder, dataset):
        rows = sorted_predictions(folder, dataset, kind)
        measures = pair_measures(rows, _pairing(folder, dataset)) if kind == "pairs" else _MEASURES[kind](rows)
        result[f"{kind}/{dataset}"] = {one.name: float(one.function(one.columns.sum(axis=0))) for one in measures}
    return result


def fairness_changes(
    base: Path, tuned: Path, dataset: str, statistics: StatisticsConfig
) -> dict[str, dict[str, dict[str, Any]]]:
    """`<kind>/<data set>` → measure → comparison. A measure with a `neutral` value is better where the tuned model's
    lies nearer to it."""
    result = {}
    for kind in _kinds(base, dataset):
        before, after = (sorted_predictions(folder, dataset, kind) for folder in (base, tuned))
        if kind == "pairs":
            entries = compare_pairs(before, after, _pairing(base, dataset), statistics)
        else:
            entries = _CHANGES[kind](before, after, statistics)
        result[f"{kind}/{dataset}"] = {name: _told(entry) for name, entry in entries.items()}
    return result


def _told(entry: Entry) -> dict[str, Any]:
    return {**entry, "verdict": _VERDICTS.get(str(entry["verdict"]), entry["verdict"])}


def _kinds(folder: Path, dataset: str) -> list[Any]:
    return [kind for kind in FAIRNESS if predictions_path(folder, dataset, kind).exists()]


def _pairing(folder: Path, dataset: str) -> PairConfig:
    return PairConfig(normalise=read_policies(folder)[dataset]["pairs"]["normalise"])

"""How well scores tell two classes apart: AUC with its interval, and what each threshold would keep."""

from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 1000


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    return float(_Ranked(scores, labels).auc(np.ones(len(scores))))


def auc_interval(scores: Sequence[float], labels: Sequence[bool], seed: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the AUC (Efron 1979), resampled within each class."""
    ranked, random = _Ranked(scores, labels), np.random.default_rng(seed)
    positives = np.asarray(labels, bool)
    found: list[float] = []
    for _ in range(RESAMPLES):
        weights = np.zeros(len(scores))
        for side in (positives, ~positives):
            members = np.flatnonzero(side)
            weights[members] = np.bincount(random.integers(0, len(members), len(members)), minlength=len(members))
        found.append(ranked.auc(weights))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def threshold_table(scores: Sequence[float], labels: Sequence[bool]) -> list[dict[str, float]]:
    """Precision and recall of "score ≥ threshold", and the share of all rows that it keeps, for 0.1, 0.2 … 0.9."""
    values, truth = np.asarray(scores), np.asarray(labels, bool)
    rows: list[dict[str, float]] = []
    for tenth in range(1, 10):
        kept = values >= tenth / 10
        right = int((kept & truth).sum())
        precision, recall = right / max(int(kept.sum()), 1), right / int(truth.sum())
        rows.append(
            {
                "threshold": tenth / 10,
                "precision": round(precision, 4),
                "recall": round(recall, 4),
                "kept": round(float(kept.mean()), 4),
            }
        )
    return rows


class _Ranked:
    """Scores sorted once, so that each resample costs a running sum."""

    def __init__(self, scores: Sequence[float], labels: Sequence[bool]) -> None:
        values = np.asarray(scores, float)
        self._order = np.argsort(values, kind="stable")
        ordered = values[self._order]
        self._group = np.cumsum(np.diff(ordered, prepend=ordered[:1]) != 0)
        self._positive = np.asarray(labels, bool)[self._order]

    def auc(self, weights: Any) -> float:
        weight = weights[self._order]
        groups = int(self._group[-1]) + 1
        positive = np.bincount(self._group, weight * self._positive, minlength=groups)
        negative = np.bincount(self._group, weight * ~self._positive, minlength=groups)
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))

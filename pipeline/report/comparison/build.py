"""From runs to a comparison: ranking, paired differences to the best, the Pareto fronts, the effect of each setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.comparison.entry import Entry, ranked, refuse_unlike, varying
from pipeline.report.comparison.pairs import paired
from pipeline.report.load import ReportError
from pipeline.report.metrics import label, lower_is_better
from pipeline.report.safe_text import visible

MOST_PAIRS = 12
"""Paired tests against the best: more runs than this are ranked, but not tested."""
COSTS = {"seconds": "training time (s)", "memory": "peak memory (GiB)", "energy": "energy (kWh)"}


@dataclass(frozen=True)
class Compared:
    """One run of the comparison; `cell` is its paired difference to the best, or a word why there is none."""

    entry: Entry
    value: float
    cell: dict[str, Any] | None
    why_not: str
    fronts: frozenset[str]
    """The costs for which no other run is both better and cheaper."""


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison shows."""

    task: str
    metric: str
    runs: list[Compared]
    """The best first."""
    settings: dict[str, list[Any]]
    """The settings that vary: key → value per run, in the order of `runs`."""
    left_out: list[str]
    """One line for each run that has no place in the comparison."""

    @property
    def label(self) -> str:
        """The metric and its task in words."""
        return f"{label(self.metric)}, {self.task}"

    @property
    def lower_is_better(self) -> bool:
        """Which way is better."""
        return lower_is_better(self.metric)

    def within_noise(self) -> list[Compared]:
        """The tested runs that cannot be told from the best."""
        return [run for run in self.runs[1:] if run.cell is not None and run.cell.get("verdict") == "cannot tell"]


def build(entries: Sequence[Entry], refused: Sequence[str], best: str | None = None) -> Comparison:
    """Compare runs by one metric: `METRIC`, `TASK:METRIC`, or the one of their own verdicts.

    Raises ReportError when fewer than two runs have numbers, when they were not evaluated alike, or for an unknown
    metric.
    """
    measured = [entry for entry in entries if entry.scores]
    idle = [f"{entry.id}: {_why(entry)}" for entry in entries if not entry.scores]
    if len(measured) < 2:
        told = "; ".join([*idle, *refused][:3])
        few = f"{len(measured)} run{'s' if len(measured) != 1 else ''} with metrics; a comparison needs two"
        raise ReportError(few + (f" ({told})" if told else ""))
    refuse_unlike(measured)
    task, metric = _chosen(measured, best)
    order = ranked(measured, task, metric)
    idle += [f"{entry.id}: has no {metric} of {task}" for entry in measured if entry not in order]
    if len(order) < 2:
        raise ReportError(f"{metric} of {task}: measured by {len(order)} run only; a comparison needs two")
    fronts = {cost: front(order, task, metric, cost) for cost in COSTS}
    rows = []
    for place, entry in enumerate(order):
        cell = paired(order[0], entry, task, metric) if 0 < place <= MOST_PAIRS else ""
        on = frozenset(cost for cost, members in fronts.items() if entry.folder in members)
        found = cell if isinstance(cell, dict) else None
        why = cell if isinstance(cell, str) else ""
        rows.append(Compared(entry, entry.score(task, metric) or 0.0, found, why, on))
    return Comparison(task, metric, rows, varying(order), [*idle, *refused])


def _why(entry: Entry) -> str:
    return "stopped before it was evaluated" if entry.status == "failed" else "evaluated nothing"


def _chosen(entries: Sequence[Entry], best: str | None) -> tuple[str, str]:
    """The (task, metric) that decides."""
    known = [(task, metric) for task, metrics in entries[0].scores.items() for metric in metrics]
    if best is None:
        headline = entries[0].headline or (known[0] if known else None)
        if headline in known:
            return headline  # type: ignore[return-value]
    wanted_task, _, wanted = (best or "").rpartition(":")
    found = [pair for pair in known if pair[1] == wanted and wanted_task in ("", pair[0])]
    if not found:
        names = ", ".join(dict.fromkeys(metric for _, metric in known))
        raise ReportError(f"--best {visible(str(best))}: no such metric; these runs have {visible(names)}")
    return found[0]


def front(entries: Sequence[Entry], task: str, metric: str, cost: str) -> set[str]:
    """Folders of the runs that no other run beats in both score and cost (at least equal in both, better in one)."""
    sign = 1 if lower_is_better(metric) else -1
    points = [
        (sign * value, entry.costs[cost], entry.folder)
        for entry in entries
        if cost in entry.costs and (value := entry.score(task, metric)) is not None
    ]
    on_front: set[tuple[float, float]] = set()
    cheapest = float("inf")
    for score, price, _ in sorted(points):
        if price < cheapest:
            on_front.add((score, price))
            cheapest = price
    return {folder for score, price, folder in points if (score, price) in on_front}

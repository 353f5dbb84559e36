"""Comparisons as the report shows them: rows of text plus the geometry of their interval plots."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.report.formatting import decimals_for, fixed, number, p_value, percent, signed
from pipeline.report.metrics import label, lower_is_better, spokesman
from pipeline.report.schema import Comparison, Report
from pipeline.report.verdict import WORDS, advice

TONES = {"better": "better", "worse": "worse"}
_DEFAULT_CONFIDENCE = 0.95
_ROOM_FOR_TWO = 30.0  # percent of the plot: two labels fit on a phone


class EndLabel(NamedTuple):
    """A text of the wide plot: position in percent, SVG anchor, text."""

    at: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Strip:
    """An interval plot: positions in percent of the width, oriented so that right is always better."""

    zero: float
    dot: float
    low: float
    high: float

    def anchor(self, position: float) -> str:
        """Where a label at `position` hangs so that it stays inside."""
        return "start" if position < 9 else "end" if position > 91 else "middle"

    def end_labels(self, row: "MetricRow") -> list["EndLabel"]:
        """The bounds under their ends, or as one text where the interval is too short for two."""
        if self.high - self.low < _ROOM_FOR_TWO:
            side = "start" if self.low < 20 else "end" if self.high > 80 else "middle"
            at = {"start": self.low, "end": self.high, "middle": (self.low + self.high) / 2}[side]
            return [EndLabel(round(at, 2), side, row.interval)]
        left, right = (row.high, row.low) if row.lower_is_better else (row.low, row.high)
        return [EndLabel(self.low, self.anchor(self.low), left), EndLabel(self.high, self.anchor(self.high), right)]


@dataclass(frozen=True)
class MetricRow:
    """One metric of one comparison, every number as text."""

    comparison: str
    task: str
    metric: str
    label: str
    base: str
    tuned: str
    difference: str
    low: str
    high: str
    p: str
    n: str
    word: str
    tone: str
    lower_is_better: bool
    strip: Strip | None
    advice: str

    @property
    def interval(self) -> str:
        """`low to high`, or nothing."""
        return f"{self.low} to {self.high}" if self.strip else ""

    @property
    def spoken(self) -> str:
        """The plot in words."""
        inside = f", interval {self.interval}" if self.interval else ""
        return f"{self.task} {self.label}: difference {self.difference}{inside}, {self.word.lower()}"


def metric_row(comparison: str, task: str, metric: str, cell: Comparison, symmetric: bool = True) -> MetricRow:
    """The row of one comparison; decimals follow the width of the interval."""
    decimals = decimals_for(cell.low, cell.high)
    tone = TONES.get(cell.verdict or "", "unsure")
    return MetricRow(
        comparison=comparison,
        task=task,
        metric=metric,
        label=label(metric),
        base=fixed(cell.base, decimals),
        tuned=fixed(cell.tuned, decimals),
        difference=signed(cell.difference, decimals),
        low=signed(cell.low, decimals),
        high=signed(cell.high, decimals),
        p=p_value(cell.p if cell.p_holm is None else cell.p_holm),
        n=number(cell.n),
        word=WORDS.get(cell.verdict or "", WORDS["cannot tell"]),
        tone=tone,
        lower_is_better=lower_is_better(metric),
        strip=strip(cell, metric, symmetric),
        advice=advice(cell.model_dump()).strip() if tone == "unsure" else "",
    )


def strip(cell: Comparison, metric: str, symmetric: bool = True) -> Strip | None:
    """Geometry of one interval; symmetric about "no change", or only as wide as needed. None without an interval."""
    values = (cell.difference, cell.low, cell.high)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(finite) < 3:
        return None
    sign = -1 if lower_is_better(metric) else 1
    dot, one, other = (sign * value for value in finite)
    low, high = min(one, other), max(one, other)
    reach = max(abs(low), abs(high), abs(dot)) or 1.0
    short_side = reach if symmetric else reach * 0.55
    left, right = min(low, dot, -short_side) * 1.08, max(high, dot, short_side) * 1.08

    def place(value: float) -> float:
        return round(100 * (value / reach - left / reach) / (right / reach - left / reach), 2)

    return Strip(zero=place(0.0), dot=place(dot), low=place(low), high=place(high))


def metric_rows(report: Report) -> dict[str, list[MetricRow]]:
    """Every comparison's rows, in the order of the file."""
    return {
        name: [metric_row(name, task, metric, cell) for task, cells in tasks.items() for metric, cell in cells.items()]
        for name, tasks in report.evaluation.comparisons.items()
        if any(tasks.values())
    }


def headline_row(report: Report) -> MetricRow | None:
    """The verdict as a row, with the wide plot."""
    verdict = report.verdict
    if verdict is None or verdict.metric is None:
        return None
    return metric_row(verdict.comparison or "", verdict.task or "", verdict.metric, verdict, symmetric=False)


def banner_sentence(report: Report) -> str:
    """The verdict's sentence without its first word, which stands above it in large letters."""
    sentence = (report.verdict.sentence if report.verdict else None) or ""
    for word in WORDS.values():
        rest = sentence.removeprefix(f"{word}: ")
        if rest != sentence:
            return rest[:1].upper() + rest[1:]
    return sentence


def tiles(report: Report) -> list[MetricRow]:
    """One metric for each other task of the headline comparison, at most eight: what became worse is never hidden."""
    verdict = report.verdict
    tasks = report.evaluation.comparisons.get(verdict.comparison or "", {}) if verdict else {}
    chosen = []
    for task, cells in tasks.items():
        worse = [metric for metric, cell in cells.items() if cell.verdict == "worse"]
        metric = spokesman(worse or list(cells))
        if metric is not None and verdict and (task, metric) != (verdict.task, verdict.metric):
            chosen.append(metric_row(verdict.comparison or "", task, metric, cells[metric]))
    return chosen[:8]


def tally(rows: list[MetricRow]) -> str:
    """How many metrics of a comparison went which way."""
    counts = [(tone, sum(row.tone == tone for row in rows)) for tone in ("better", "worse", "unsure")]
    words = {"better": "better", "worse": "worse", "unsure": "cannot tell"}
    said = ", ".join(f"{count} {words[tone]}" for tone, count in counts)
    worse = [f"{row.label} of {row.task}" for row in rows if row.tone == "worse"]
    named = f" (worse: {', '.join(worse[:3])}{' …' if len(worse) > 3 else ''})" if worse else ""
    return f"{len(rows)} metric{'s' if len(rows) != 1 else ''} compared: {said}{named}"


def confidence(report: Report) -> str:
    """The level of all intervals, as text."""
    level = report.verdict.confidence if report.verdict else None
    return percent(_DEFAULT_CONFIDENCE if level is None else level)


def scores(report: Report) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """Models, and every number of every model: (task, metric label, one text per model)."""
    models = report.evaluation.models
    keys = dict.fromkeys(
        (task, metric) for tasks in models.values() for task, cells in tasks.items() for metric in cells
    )
    rows = []
    for task, metric in keys:
        cells: list[Any] = [models[model].get(task, {}).get(metric) for model in models]
        if any(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells):
            rows.append((task, label(metric), [number(cell) for cell in cells]))
    return list(models), rows

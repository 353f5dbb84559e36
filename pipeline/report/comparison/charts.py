"""The figures of a comparison: score against each cost, and against each setting that varies."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator, FuncFormatter, NullFormatter

from pipeline.report.charts import LARGE, MUTED, POINT, RAW, SMOOTH, Chart, Margins, svg
from pipeline.report.comparison.build import COSTS, Comparison
from pipeline.report.formatting import number
from pipeline.report.safe_text import one_line, shortened, visible

MOST_EFFECTS = 6
_GIB = 2**30
MARGINS = Margins(0.6, 0.5, 0.12, 0.1)
"""Inches: five digits at the left, ticks and a title below."""


def pareto_charts(found: Comparison) -> list[tuple[str, Chart]]:
    """One figure per cost that at least two runs know: (cost, chart); runs on the front are joined."""
    charts = []
    for cost, title in COSTS.items():
        points = [
            (run.entry.costs[cost], run.value, cost in run.fronts) for run in found.runs if cost in run.entry.costs
        ]
        if len(points) < 2:
            continue
        scale = _GIB if cost == "memory" else 1.0
        scaled = [(price / scale, value, is_front) for price, value, is_front in points]
        charts.append((cost, _chart(title, found, lambda axes, p=scaled, t=title: _draw_front(axes, p, t, found))))
    return charts


def effect_charts(found: Comparison) -> list[tuple[str, Chart]]:
    """One figure per setting with numbers or few words: (setting, chart)."""
    charts = []
    for key, values in list(found.settings.items())[:MOST_EFFECTS]:
        scores = [run.value for run in found.runs]
        title = one_line(key)
        charts.append(
            (key, _chart(title, found, lambda axes, v=values, s=scores, t=title: _draw_effect(axes, v, s, t, found)))
        )
    return charts


def _chart(title: str, found: Comparison, draw: Any) -> Chart:
    wide, narrow = (svg(size, draw, f"{title}|{found.label}|{size}", MARGINS) for size in LARGE)
    return Chart(title, False, wide, narrow)


def _draw_front(axes: Axes, points: Sequence[tuple[float, float, bool]], title: str, found: Comparison) -> None:
    rest = [point for point in points if not point[2]]
    front = sorted(point for point in points if point[2])
    axes.step([p[0] for p in front], [p[1] for p in front], where="post", color=SMOOTH, linewidth=1, zorder=1)
    axes.scatter([p[0] for p in rest], [p[1] for p in rest], color=RAW, s=28, label="beaten by another run")
    axes.scatter([p[0] for p in front], [p[1] for p in front], color=POINT, marker="D", s=34, label="best at its cost")
    _finish(axes, title, found, [p[0] for p in points])
    axes.legend(frameon=False, loc="best", labelcolor=MUTED, fontsize=9)


def _draw_effect(axes: Axes, values: Sequence[Any], scores: Sequence[float], title: str, found: Comparison) -> None:
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    words = list(dict.fromkeys(map(str, values)))
    places = [float(value) for value in values] if is_number else [float(words.index(str(value))) for value in values]
    axes.scatter(places, scores, color=POINT, s=28)
    means = {place: [s for p, s in zip(places, scores, strict=True) if p == place] for place in sorted(set(places))}
    axes.plot(list(means), [sum(each) / len(each) for each in means.values()], color=SMOOTH, linewidth=1.5)
    _finish(axes, title, found, places if is_number else [])
    if not is_number:
        labels = [shortened(one_line(visible(word)), 16) for word in words]
        axes.set_xticks(range(len(words)), labels, parse_math=False)
        axes.margins(x=0.2)


def _finish(axes: Axes, title: str, found: Comparison, places: Sequence[float]) -> None:
    """Axes in numbers; logarithmic where the values span more than a decade."""
    axes.set_xlabel(title, color=MUTED, fontsize=9, parse_math=False)
    axes.xaxis.set_major_locator(AutoLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value), 3)))
    if places and min(places) > 0 and max(places) / min(places) > 10:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(float(value))))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.06, y=0.12)


def _power(value: float) -> str:
    exponent = math.log10(value) if value > 0 else 0.0
    return f"1e{round(exponent)}".replace("-", "−") if abs(exponent) >= 3 else number(value, 2)

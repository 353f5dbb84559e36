"""Scaling laws of a comparison: runs that pretrain, by the bits per byte that they are compared by."""

from matplotlib.axes import Axes

from pipeline.report.charts import LARGE, MUTED, POINT, RAW, SMOOTH, Chart, svg
from pipeline.report.comparison.build import Comparison
from pipeline.report.comparison.charts import MARGINS
from pipeline.report.formatting import number, percent, signed
from pipeline.report.scaling import AXES, FEWEST, Point, Scaling

METRIC = "bits_per_byte"
_SAMPLES = 100
"""Points of a drawn line."""


def laws_of(found: Comparison) -> list[Scaling]:
    """The laws that the compared runs allow; none where they do not pretrain, or are compared by another metric."""
    points = [
        Point(run.entry.id, run.entry.trained["parameters"], run.entry.trained["tokens"], run.value)
        for run in found.runs
        if run.entry.trained
    ]
    if found.metric != METRIC or len(points) < FEWEST:
        return []
    from pipeline.report.scaling import scaling

    try:
        return scaling(points)
    except ValueError:  # too few different sizes for any law
        return []


def law_sentence(law: Scaling) -> str:
    """The law, and how well it told the largest run, which it did not see."""
    told = law.law
    return (
        f"L = {number(told.floor, 3)} + {number(told.scale, 3)} · (x / {number(told.unit, 3)})^"
        f"{signed(-told.exponent, 3)}, x = {AXES[law.axis]}. Fitted without {law.held_out.name}, it told "
        f"{number(law.predicted)} ({number(law.low)} to {number(law.high)}) where {number(law.held_out.loss)} was "
        f"measured: {'+' if law.error > 0 else ''}{percent(law.error)}."
    )


def law_rows(law: Scaling) -> list[tuple[str, str, str, str]]:
    """(run, x, measured, told by the law), the smallest first; the last one is held out."""
    return [
        (point.name, number(float(point.on(law.axis)), 3), number(point.loss), number(law.law(point.on(law.axis))))
        for point in law.points
    ]


def law_charts(laws: list[Scaling]) -> list[Chart]:
    """One figure per law."""
    return [
        Chart(
            AXES[law.axis],
            False,
            *(svg(size, lambda axes, law=law: _draw(axes, law), f"{law.axis}|{size}", MARGINS) for size in LARGE),
        )
        for law in laws
    ]


def _draw(axes: Axes, law: Scaling) -> None:
    x = [point.on(law.axis) for point in law.points]
    ratio = (x[-1] / x[0]) ** (1 / (_SAMPLES - 1))
    line = [x[0] * ratio**step for step in range(_SAMPLES)]
    axes.plot(line, [law.law(at) for at in line], color=SMOOTH, linewidth=1.5, label="law")
    axes.scatter(x[:-1], [point.loss for point in law.points[:-1]], color=RAW, s=28, label="runs that it was fitted on")
    bounds = [[law.predicted - law.low], [law.high - law.predicted]]
    axes.errorbar(x[-1:], [law.predicted], bounds, fmt="_", color=SMOOTH, capsize=4, label="told for the largest")
    axes.scatter(x[-1:], [law.held_out.loss], color=POINT, marker="D", s=34, label="the largest, held out")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: number(float(value), 2))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_xlabel(AXES[law.axis], color=MUTED, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=MUTED)

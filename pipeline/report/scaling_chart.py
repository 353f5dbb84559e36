"""The picture of scaling laws: points, fitted lines, and the held-out point beside what the law told for it."""

from pathlib import Path

from pipeline.report.scaling import AXES, Scaling

WIDTH, HEIGHT = 4.6, 3.4
"""Inches of one law's panel."""


def draw(laws: list[Scaling], path: Path, unit: str) -> None:
    """Write an SVG with one panel per law; `unit`: of the losses. The same laws give the same bytes."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "scaling", "font.size": 9})
        figure = Figure(figsize=(WIDTH * len(laws), HEIGHT), layout="constrained")
        for place, law in enumerate(laws):
            axes = figure.add_subplot(1, len(laws), place + 1)
            x = [point.on(law.axis) for point in law.points]
            line = np.geomspace(x[0], x[-1], 100)
            axes.plot(
                line, [law.law(float(at)) for at in line], color="#4477aa", label="law, fitted on the filled points"
            )
            axes.plot(x[:-1], [point.loss for point in law.points[:-1]], "o", color="#222222", label="runs")
            axes.errorbar(
                x[-1], law.predicted, [[law.predicted - law.low], [law.high - law.predicted]],
                fmt="_", color="#cc3311", capsize=4, label="told for the largest",
            )  # fmt: skip
            axes.plot(x[-1], law.held_out.loss, "o", markerfacecolor="none", color="#222222", label="largest, held out")
            axes.set_xscale("log")
            axes.set_xlabel(AXES[law.axis])
            axes.set_ylabel(unit)
            axes.legend(frameon=False, fontsize=8)
        metadata = {"Date": None, "Creator": None}
        figure.savefig(path, format="svg", metadata=metadata)

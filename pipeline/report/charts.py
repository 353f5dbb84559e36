"""Training curves as inline SVG (matplotlib): colours are CSS variables, so that light, dark and print all work."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.report.formatting import number
from pipeline.report.schema import Training

# matplotlib knows no CSS variables: it draws in these colours, and they are replaced in the text of the SVG
INK, MUTED, GRID, RAW, SMOOTH, POINT = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    RAW: "var(--curve-raw)",
    SMOOTH: "var(--curve)",
    POINT: "var(--point)",
}
_MAX_POINTS = 800
Size = tuple[float, float]
# inches: (wide screen, phone); the page scales them so that 9 pt come out at about 12 px on both
LARGE = ((7.4, 2.9), (3.6, 2.7))
SMALL = ((4.6, 1.9), (3.6, 1.7))


class Curve(NamedTuple):
    """Finite points of one series, in order of step."""

    steps: list[int]
    values: list[float]


class Chart(NamedTuple):
    """A drawn figure for wide and for narrow screens."""

    title: str
    small: bool
    wide: str
    narrow: str


def curve(points: Sequence[Any], field: str) -> Curve:
    """The finite values of a field."""
    kept = [
        (point.step, value) for point in points if (value := getattr(point, field)) is not None and math.isfinite(value)
    ]
    return Curve([step for step, _ in kept], [value for _, value in kept])


def smooth(values: list[float]) -> list[float]:
    """Exponential moving average over about a tenth of the run, unbiased at the start (as in Adam)."""
    decay = 1 - 2 / (max(len(values) / 10, 2) + 1)
    total, weight, out = 0.0, 0.0, []
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        out.append(total / weight)
    return out


def thinned(points: Curve, limit: int = _MAX_POINTS) -> Curve:
    """At most `limit` points that keep every spike: the lowest and the highest of each bucket."""
    count = len(points.steps)
    if count <= limit:
        return points
    width = math.ceil(count / (limit // 2))
    keep: set[int] = set()
    for start in range(0, count, width):
        bucket = range(start, min(start + width, count))
        keep |= {min(bucket, key=points.values.__getitem__), max(bucket, key=points.values.__getitem__)}
    order = sorted(keep)
    return Curve([points.steps[i] for i in order], [points.values[i] for i in order])


class Margins(NamedTuple):
    """Room around the axes in inches."""

    left: float
    bottom: float
    right: float
    top: float

    def shares(self, size: Size) -> tuple[float, float, float, float]:
        """Where the axes begin and end, as shares of the figure: left, bottom, right, top."""
        width, height = size
        return self.left / width, self.bottom / height, 1 - self.right / width, 1 - self.top / height


def training_charts(training: Training, name: str) -> list[Chart]:
    """Loss (train, smoothed, validation), then learning rate and gradient norm; series without points are left out."""
    charts = []
    loss, validation = curve(training.steps, "loss"), curve(training.validation, "loss")
    if loss.steps or validation.steps:
        charts.append(_chart("Loss", name, LARGE, lambda axes: _draw_loss(axes, loss, validation)))
    for field, title in (("learning_rate", "Learning rate"), ("grad_norm", "Gradient norm")):
        points = thinned(curve(training.steps, field))
        if points.steps:
            charts.append(_chart(title, name, SMALL, lambda axes, points=points: _draw_line(axes, points, SMOOTH)))
    return charts


def _draw_loss(axes: Axes, loss: Curve, validation: Curve) -> None:
    if loss.steps:
        raw, even = thinned(loss), thinned(Curve(loss.steps, smooth(loss.values)))
        axes.plot(raw.steps, raw.values, color=RAW, linewidth=1, label="train, each step")
        axes.plot(even.steps, even.values, color=SMOOTH, linewidth=2, label="train, smoothed")
    if validation.steps:
        style = {"marker": "D", "markersize": 5, "linestyle": (0, (2, 2)), "linewidth": 1}
        axes.plot(validation.steps, validation.values, color=POINT, label="validation", **style)
    axes.legend(frameon=False, loc="upper right", labelcolor=INK, fontsize=9)


def _draw_line(axes: Axes, points: Curve, color: str) -> None:
    marker = {"marker": "o", "markersize": 4} if len(points.steps) == 1 else {}
    axes.plot(points.steps, points.values, color=color, linewidth=1.5, **marker)
    if min(points.values) >= 0:
        axes.set_ylim(bottom=0)


def _chart(title: str, name: str, sizes: tuple[Size, Size], draw: Callable[[Axes], None]) -> Chart:
    wide, narrow = (svg(size, draw, f"{title}|{name}|{size}") for size in sizes)
    return Chart(title, sizes == SMALL, wide, narrow)


def svg(size: Size, draw: Callable[[Axes], None], salt: str, margins: Margins | None = None) -> str:
    """Draw on fresh axes and return clean SVG; the same input gives the same bytes on every run.

    `margins` instead of a layout that matplotlib works out: it would draw everything twice.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc of the user's own must not change the report
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9})
        figure = Figure(figsize=size, layout=None if margins else "constrained")
        axes = figure.add_subplot()
        if margins:
            figure.subplots_adjust(*margins.shares(size))
        _style(axes)
        draw(axes)
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _for_html(buffer.getvalue())


def _style(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value):,}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(float(value), axes)))
    axes.set_xlabel("step", color=MUTED, fontsize=9)
    axes.margins(x=0.02)


def _tick(value: float, axes: Axes) -> str:
    """All ticks of an axis in one notation: powers of ten for learning rates."""
    if value and max(map(abs, axes.get_ylim())) < 1e-2:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    return number(value, 3)


def _for_html(svg: str) -> str:
    """Keep the `<svg>` element alone, without ids that nothing refers to, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    referred = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([\w-]+)"', lambda found: found[0] if found[1] in referred else "", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
    return re.sub(r"<svg[^>]*>", opening, svg, count=1).strip()

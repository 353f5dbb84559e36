"""The funnel of a data set as a Sankey diagram: one band per step, what it drops bends down. Inline SVG, no library."""

from collections.abc import Sequence

from markupsafe import escape

from pipeline.report.charts import Chart
from pipeline.report.formatting import number
from pipeline.report.safe_text import one_line, shortened
from pipeline.report.schema import FunnelStep

_TOP, _BAND, _DROP, _LEAST = 32.0, 96.0, 54.0, 1.5


def sankey_chart(funnel: Sequence[FunnelStep]) -> Chart | None:
    """The diagram for wide and narrow screens; None where there is nothing to show."""
    steps = list(funnel)
    if len(steps) < 2 or max(step.rows + step.dropped for step in steps) <= 0:
        return None
    return Chart("Funnel", False, _svg(steps, 740.0, 11), _svg(steps, 360.0, 12))


def _svg(steps: Sequence[FunnelStep], width: float, font: int) -> str:
    """Bands whose height is the number of rows; each step's loss leaves at its lower edge."""
    most = max(max(step.rows + step.dropped, 0) for step in steps)
    stride, bar = (width - 8) / len(steps), 7.0
    parts, floor = [], _TOP + _BAND + _DROP
    for place, step in enumerate(steps):
        x, rows = 4 + place * stride, max(step.rows, 0)
        entered = _high(rows + max(step.dropped, 0), most)
        kept = _high(rows, most)
        parts.append(f'<rect class="kept" x="{x:.1f}" y="{_TOP}" width="{bar}" height="{entered:.1f}" rx="1"/>')
        if place + 1 < len(steps) and rows:
            band = f'<rect class="flow" x="{x + bar:.1f}" y="{_TOP}" width="{stride - bar:.1f}" height="{kept:.1f}"/>'
            parts.append(band)
        if step.dropped > 0:
            parts.append(_branch(x + bar, _TOP + kept, entered - kept, stride * 0.45, floor))
            loss = f'<text x="{x + bar:.1f}" y="{floor + 14:.1f}" font-size="{font}">−{number(step.dropped)}</text>'
            parts.append(loss)
        if width > 500 or place in (0, len(steps) - 1):
            parts.append(_label(x, step, stride, font, is_last=place == len(steps) - 1, width=width))
    height = floor + 22
    opening = (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" aria-hidden="true">'
    )
    return opening + "".join(parts) + "</svg>"


def _high(rows: int, most: int) -> float:
    """Height of a band; a few rows stay visible."""
    return max(_BAND * rows / most, _LEAST) if rows else 0.0


def _branch(x: float, y: float, thick: float, reach: float, floor: float) -> str:
    """A band of `thick` that bends from horizontal to straight down."""
    thick = max(thick, _LEAST)
    outer, inner, low = x + reach, x + max(reach - thick, 0.0), y + thick
    out = f"M{x:.1f} {y:.1f}C{outer:.1f} {y:.1f} {outer:.1f} {low:.1f} {outer:.1f} {floor:.1f}"
    back = f"L{inner:.1f} {floor:.1f}C{inner:.1f} {low + 8:.1f} {inner:.1f} {low:.1f} {x:.1f} {low:.1f}Z"
    return f'<path class="lost" d="{out}{back}"/>'


def _label(x: float, step: FunnelStep, stride: float, font: int, is_last: bool, width: float) -> str:
    room = max(int((stride if width > 500 else width / 2) / (font * 0.58)), 4)
    name = one_line(step.step)
    name = name if len(name) <= room else f"{name[: room - 1]}…"
    at, anchor = (width - 2, "end") if is_last and width <= 500 else (x, "start")
    texts = ((12.0, name), (_TOP - 5, number(max(step.rows, 0))))
    return "".join(
        f'<text x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{font}">{escape(shortened(text, 60))}</text>'
        for y, text in texts
    )

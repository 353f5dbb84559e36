"""Did it help? Picks the headline comparison and says it in one sentence."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.formatting import decimals_for, fixed, number, p_value, percent, signed
from pipeline.report.metrics import label, spokesman

WORDS = {"better": "Better", "worse": "Worse", "cannot tell": "Cannot tell"}

Cell = Mapping[str, Any]
Comparisons = Mapping[str, Mapping[str, Mapping[str, Cell]]]


def headline(comparisons: Comparisons, confidence: float = 0.95) -> dict[str, Any] | None:
    """The verdict of a run, or None when nothing was compared.

    The last comparison speaks (the model that the run ends with), through the bits per byte of its first data set,
    because they have the least noise; without perplexity, through its first task.
    """
    for name, tasks in reversed(list(comparisons.items())):
        chosen = _choose(tasks)
        if chosen is None:
            continue
        task, metric = chosen
        cell = dict(tasks[task][metric])
        cell.setdefault("verdict", "cannot tell")
        return {
            "comparison": name,
            "task": task,
            "metric": metric,
            **cell,
            "confidence": confidence,
            "sentence": sentence(metric, cell, confidence),
        }
    return None


def _choose(tasks: Mapping[str, Mapping[str, Cell]]) -> tuple[str, str] | None:
    held = [task for task in tasks if tasks[task]]
    for task in held:
        if task.startswith("perplexity/") and "bits_per_byte" in tasks[task]:
            return task, "bits_per_byte"
    return (held[0], str(spokesman(list(tasks[held[0]])))) if held else None


def sentence(metric: str, cell: Cell, confidence: float = 0.95) -> str:
    """One sentence (two when undecided): direction, size, interval, n."""
    if cell.get("difference") is None:
        return f"Cannot tell: {label(metric)} has no difference to judge."
    if cell.get("verdict") in ("better", "worse"):
        return _decided(metric, cell, confidence)
    return _undecided(metric, cell, confidence)


def _decided(metric: str, cell: Cell, confidence: float) -> str:
    low, high, difference = cell.get("low"), cell.get("high"), cell["difference"]
    decimals = decimals_for(low, high)
    if low is None or high is None:
        interval = "no interval"
    elif low <= 0 <= high:  # absolute bounds would hide that the interval straddles zero
        interval = f"{percent(confidence)} interval of the change {signed(low, decimals)} to {signed(high, decimals)}"
    else:
        near, far = sorted((abs(low), abs(high)))
        interval = f"{percent(confidence)} interval {fixed(near, decimals)} to {fixed(far, decimals)}"
    verb = "lowers" if difference < 0 else "raises"
    size = fixed(abs(difference), decimals)
    return f"{WORDS[cell['verdict']]}: the training {verb} held-out {label(metric)} by {size} ({interval}{_n(cell)})."


def _undecided(metric: str, cell: Cell, confidence: float) -> str:
    low, high, difference = cell.get("low"), cell.get("high"), cell["difference"]
    decimals = decimals_for(low, high)
    start = f"Cannot tell: held-out {label(metric)} changed by {signed(difference, decimals)}"
    if low is None or high is None:
        return f"{start}, without an interval{_n(cell)}."
    interval = f"{percent(confidence)} interval"
    bounds = f"{signed(low, decimals)} to {signed(high, decimals)}{_n(cell)}"
    if low <= 0 <= high:
        why = f", and the {interval} ({bounds}) includes no change."
    else:
        p = p_value(cell.get("p_holm"))
        why = f" ({interval} {bounds}), which does not stand after correcting for the number of metrics (p = {p})."
    return start + why + advice(cell)


def advice(cell: Cell) -> str:
    """What an undecided comparison could have seen, and how many more rows would decide it."""
    parts = []
    if cell.get("detectable") is not None:
        parts.append(f" With this many rows, changes below about {number(float(cell['detectable']), 2)} stay unseen.")
    if cell.get("more_needed"):
        parts.append(f" About {number(int(cell['more_needed']))} more rows would settle a change of this size.")
    return "".join(parts)


def _n(cell: Cell) -> str:
    return f", n = {number(cell['n'])}" if cell.get("n") is not None else ""

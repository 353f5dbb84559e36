"""The comparison in words and rows of text, shared by page, Markdown and terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.comparison.build import MOST_PAIRS, Compared, Comparison
from pipeline.report.formatting import MISSING, count, decimals_for, duration, number, signed, size
from pipeline.report.metrics import label
from pipeline.report.safe_text import one_line, shortened, visible

MOST_ROWS = 500


@dataclass(frozen=True)
class Row:
    """One run in the table."""

    rank: str
    run: str
    score: str
    gain: str
    difference: str
    verdict: str
    tone: str
    seconds: str
    memory: str
    energy: str
    fronts: str
    settings: str


def rows(found: Comparison) -> list[Row]:
    """The runs, the best first."""
    return [_row(place, run, found) for place, run in enumerate(found.runs[:MOST_ROWS])]


def _row(place: int, run: Compared, found: Comparison) -> Row:
    gain = run.entry.gains.get(found.task, {}).get(found.metric) or {}
    word, tone = _verdict(place, run)
    costs = run.entry.costs
    return Row(
        rank=number(place + 1),
        run=run.entry.id,
        score=number(run.value),
        gain=signed(gain.get("difference"), decimals_for(gain.get("low"), gain.get("high"))),
        difference=_interval(run.cell),
        verdict=word,
        tone=tone,
        seconds=duration(costs.get("seconds")),
        memory=size(costs.get("memory")),
        energy=f"{number(costs['energy'], 3)} kWh" if "energy" in costs else MISSING,
        fronts=", ".join(sorted({"seconds": "time"}.get(cost, cost) for cost in run.fronts)) or MISSING,
        settings=settings_text(found, place),
    )


def _verdict(place: int, run: Compared) -> tuple[str, str]:
    """The paired test against the best, in one word and a tone."""
    if place == 0:
        return "best score", "better"
    if run.cell is None:
        return "not tested", "unsure"
    words = {"worse": ("behind the best", "worse"), "better": ("ahead", "better")}
    return words.get(str(run.cell.get("verdict")), ("within noise of the best", "unsure"))


def _interval(cell: Mapping[str, Any] | None) -> str:
    if not cell or cell.get("difference") is None:
        return MISSING
    decimals = decimals_for(cell.get("low"), cell.get("high"))
    low, high = (signed(cell.get(side), decimals) for side in ("low", "high"))
    return f"{signed(cell['difference'], decimals)} ({low} to {high})"


def settings_text(found: Comparison, place: int, most: int = 8) -> str:
    """The varying settings of one run, by the last part of their names."""
    pairs = [(key.split(".")[-1], values[place]) for key, values in found.settings.items()]
    return ", ".join(f"{name}={shortened(one_line(visible(spelled(value))), 40)}" for name, value in pairs[:most])


def spelled(value: Any) -> str:
    """A setting as a person writes it: 0.0003, not 0.00030000000000000003."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def headline(found: Comparison) -> tuple[str, str]:
    """(tone, sentence): which run is best, by how much, and whether that is more than noise."""
    best, second = found.runs[0], found.runs[1]
    way = "lowest" if found.lower_is_better else "highest"
    start = f"{best.entry.id} has the {way} {label(found.metric)} ({number(best.value)}) on {found.task}"
    noise = found.within_noise()
    if noise:
        names = ", ".join(run.entry.id for run in noise[:3]) + (" and others" if len(noise) > 3 else "")
        cheap = min([best, *noise], key=lambda run: run.entry.costs.get("seconds", float("inf")))
        one = len(noise) == 1
        advice = f" The cheapest of them is {cheap.entry.id}." if "seconds" in cheap.entry.costs else ""
        told = f"{len(noise)} other run{' is' if one else 's are'} within noise of it ({names})"
        return "unsure", f"Cannot tell which is best: {start}, but {told}.{advice}"
    if second.cell is None:
        why = f" ({shortened(one_line(visible(second.why_not)), 160)})" if second.why_not else ""
        return "unsure", f"{start}, but the runs could not be tested against each other{why}."
    n = f", n = {number(second.cell.get('n'))}" if second.cell.get("n") is not None else ""
    behind = f"the next one, {second.entry.id}, differs by {_interval(second.cell)}{n}"
    return "better", f"{start}; {behind}, which is more than noise."


def notes(found: Comparison) -> list[str]:
    """What a reader must know before choosing the winner."""
    told = [
        f"The best of {count(len(found.runs))} runs was chosen on the rows that it is scored on, so its score is a "
        "little too good: confirm it on rows that chose nothing."
    ]
    gain = found.runs[0].entry.gains.get(found.task, {}).get(found.metric)
    if gain and gain.get("difference") is not None:
        told.append(f"Against its own base model the best run changed {label(found.metric)} by {_interval(gain)}.")
    if len(found.runs) > MOST_PAIRS + 1:
        told.append(f"Paired tests compare the best with the next {MOST_PAIRS} runs only.")
    reasons = dict.fromkeys(run.why_not for run in found.runs if run.why_not)
    told += [f"Not tested: {shortened(one_line(visible(reason)), 160)}" for reason in list(reasons)[:3]]
    return told + [f"Left out: {visible(one_line(line))}" for line in found.left_out[:50]]


def effect_rows(found: Comparison, key: str) -> list[tuple[str, str, str, str]]:
    """(value, runs, mean score, best score) per value of a setting."""
    values = found.settings[key]
    groups: dict[str, list[float]] = {}
    for value, run in zip(values, found.runs, strict=True):
        groups.setdefault(one_line(visible(spelled(value))), []).append(run.value)
    pick = min if found.lower_is_better else max
    return [
        (shortened(value, 60), number(len(scores)), number(sum(scores) / len(scores)), number(pick(scores)))
        for value, scores in sorted(groups.items(), key=lambda item: _sortable(item[0]))
    ]


def _sortable(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text

"""What a run did beside its headline: forgetting, fairness, the judge's trust card, overlap, experts."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.report.formatting import MISSING, number, percent, value
from pipeline.report.results import MetricRow
from pipeline.report.safe_text import one_line, shortened
from pipeline.report.schema import Report, Training

FAIRNESS = ("pairs", "bbq", "groups")
"""Measures that compare groups of people (the part of a task's name before the slash)."""
GENERAL = "general"
"""The packaged text that the evaluation scores beside the data sets of the run."""
_MOST_ROWS = 200


@dataclass(frozen=True)
class Forgetting:
    """The rows on data that the model was not tuned on, and what they say together."""

    sentence: str
    rows: list[MetricRow]


def forgetting(report: Report, rows: list[MetricRow]) -> Forgetting | None:
    """Perplexity on general text and data with `role: eval`: what the model could do before and was not trained for."""
    sets = report.config.get("data")
    roles = {name: each.get("role") for name, each in sets.items() if isinstance(each, dict)} if sets else {}
    roles.setdefault(GENERAL, "eval")
    kept = [row for row in rows if row.task.startswith("perplexity/") and roles.get(_dataset(row)) == "eval"]
    first = {(row.comparison, row.task): row for row in reversed(kept)}  # units of one quantity count once
    if not kept:
        return None
    worse = sorted({_dataset(row) for row in first.values() if row.tone == "worse"})
    unsure = sorted({_dataset(row) for row in first.values() if row.tone == "unsure"})
    if worse:
        sentence = f"The tuned model is worse than the base on text that it was not tuned on: {', '.join(worse)}."
    elif unsure:
        sentence = f"Cannot tell whether something was forgotten on {', '.join(unsure)}."
    else:
        sentence = "Nothing was forgotten that was measured: the tuned model is better there, too."
    return Forgetting(sentence, kept[:_MOST_ROWS])


def _dataset(row: MetricRow) -> str:
    return row.task.partition("/")[2].partition("/")[0]


def fairness(rows: list[MetricRow]) -> list[MetricRow]:
    """The rows of measures that compare groups of people."""
    return [row for row in rows if row.task.partition("/")[0] in FAIRNESS][:_MOST_ROWS]


def judge_cards(report: Report) -> dict[str, list[tuple[str, str]]]:
    """Task and comparison → (property, text) of its judge, warnings first."""
    found = {}
    for comparison, datasets in report.evaluation.judge.items():
        for dataset, told in datasets.items():
            card: dict[str, Any] = told["card"] if isinstance(told.get("card"), dict) else {}
            warnings = card.get("warnings")
            facts = [("warning", one_line(str(each))) for each in warnings] if isinstance(warnings, list) else []
            facts += _facts({name: each for name, each in card.items() if name != "warnings"})
            if told.get("labelling_page"):
                facts.append(("labelling page", one_line(str(told["labelling_page"]))))
            shown = [(name.replace("_", " "), shortened(text, 500)) for name, text in facts[:_MOST_ROWS]]
            found[f"judge/{dataset}, {comparison}"] = shown
    return found


def scale_sentence(report: Report) -> str | None:
    """What an n-gram model of the training rows reaches: bits per byte mean little without a yardstick."""
    known = [f"{number(value)} on {name}" for name, value in report.evaluation.scale.items() if value is not None]
    if not known:
        return None
    return f"For scale: an n-gram model of the training rows reaches bits per byte of {', '.join(known)}."


def _facts(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name, item in tree.items():
        if isinstance(item, Mapping) and {"value", "low", "high"} <= item.keys():
            bounds = f"{number(item['low'])} to {number(item['high'])}"
            facts.append((f"{prefix}{name}", f"{number(item['value'])} ({bounds})"))
        elif isinstance(item, Mapping):
            facts += _facts(item, f"{prefix}{name}: ")
        elif isinstance(item, list):
            facts.append((f"{prefix}{name}", ", ".join(value(each) for each in item) or MISSING))
        else:
            facts.append((f"{prefix}{name}", one_line(value(item))))
    return facts


class OverlapRow(NamedTuple):
    """Items of one evaluation that stand in the training data."""

    dataset: str
    items: str
    removed: str
    example: str


def overlap_rows(report: Report) -> list[OverlapRow]:
    """One row per evaluation that was looked at."""
    rows = []
    for dataset, found in report.evaluation.overlap.items():
        examples = found.get("examples")
        one = examples[0] if isinstance(examples, list) and examples and isinstance(examples[0], dict) else {}
        told = [value(one.get(name)) for name in ("id", "row", "row_dataset")]
        example = f"{told[0]} in row {told[1]} of {told[2]}" if one else ""
        rows.append(
            OverlapRow(dataset, number(found.get("items")), number(found.get("removed")), shortened(example, 300))
        )
    return rows


class ExpertRow(NamedTuple):
    """One expert of one layer."""

    layer: str
    expert: str
    share: str
    bar: float
    tokens: str


def expert_rows(training: Training) -> list[ExpertRow]:
    """What each expert of a mixture takes; at most 200 rows."""
    largest = max((_share(each) for each in training.experts), default=0.0) or 1.0
    return [
        ExpertRow(
            one_line(value(each.get("layer"))),
            value(each.get("expert")),
            percent(_share(each)),
            round(100 * _share(each) / largest, 2),
            shortened(" ".join(_token(token) for token in each.get("tokens") or []), 200),
        )
        for each in training.experts[:_MOST_ROWS]
    ]


def _share(row: Mapping[str, Any]) -> float:
    share = row.get("share")
    return float(share) if isinstance(share, int | float) and 0 <= share <= 1 else 0.0


def _token(token: Any) -> str:
    text = token.get("token") if isinstance(token, dict) else token
    return repr(str(text))


def check_commands(report: Report) -> list[str]:
    """The commands that check this run."""
    run = shlex.quote(f"outputs/runs/{report.run.id}")
    return [
        f"python -m pipeline.verify {run}",
        f"python -m pipeline.reproduce {run}",
        f"python -m pipeline.export {run} bundle.zip",
    ]

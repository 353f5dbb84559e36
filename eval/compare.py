"""Two models' predictions of the same rows: metrics of each, and the verdict on their difference. Needs no model."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from data_prep.errors import DataError
from eval.choice.statistics import mcnemar
from eval.config import StatisticsConfig
from eval.fairness.tasks import fairness_changes, fairness_summary
from eval.measures.text import ROUGE, score_texts
from eval.predictions import MEASURES, Measure, predictions_path, read_policies
from eval.statistics import (
    PairedTest,
    cluster_sums,
    detectable_difference,
    holm,
    more_needed,
    paired_test,
    resample,
    room_of,
)
from eval.tasks import Metric, Task, datasets_of, sorted_predictions, tasks_of

Comparison = dict[str, dict[str, dict[str, Any]]]

# What has to be equal for each pair of rows, and what for a data set, before a difference means anything.
_SAME_IN_ROWS: dict[Measure, tuple[str, ...]] = {
    "perplexity": ("bytes", "words"),
    "generation": ("prompt", "reference"),
    "choice": ("context_sha256", "choices", "gold"),
    "cloze": ("context_sha256", "word"),
    "reasoning": ("prompt", "reference"),
    "pairs": ("kind", "bias_type", "sentences", "context_sha256"),
    "bbq": ("context_sha256", "choices", "gold", "condition"),
    "groups": ("context_sha256", "choices", "gold", "group"),
}
_SAME_IN_POLICIES = (*MEASURES, "template_sha256", "rouge", "bleu", "chrf")

# What a policy tells of the model itself: its prefix token and how much it reads. Two models may differ in these, as in
# their tokenizers; windows as long as the model reads are one way of scoring, whatever their length.
_OF_THE_MODEL = re.compile(
    r"(?<=prefix )\S+(?= not scored)|(?<=BOS before a context: )\S+|(?<=before an empty one: )\S+|"
    r"max length (\d+), stride \1\b|(?<=max length )\d+"
)

Metrics = Mapping[str, Sequence[str]]
"""Data set → the metrics of its generated answers (`eval.answer_tasks`)."""


def summarise(folder: Path, metrics: Metrics = {}) -> dict[str, dict[str, float]]:  # noqa: B006, nobody writes it
    """Every metric of one model: task → metric → value. A perplexity too large for a number is left out."""
    result: dict[str, dict[str, float]] = {}
    for dataset in datasets_of(folder):
        for task in tasks_of(folder, dataset, metrics.get(dataset, ())):
            values = {metric.name: _value(task, metric) for metric in task.metrics} | task.shown
            result[task.key] = {name: value for name, value in values.items() if math.isfinite(value)}
        result |= fairness_summary(folder, dataset)
    return result


def compare(
    base_folder: Path,
    tuned_folder: Path,
    config: StatisticsConfig,
    metrics: Metrics = {},  # noqa: B006, nobody writes it
    judged: Comparison | None = None,
) -> Comparison:
    """Task → metric → {"base", "tuned", "difference", "low", "high", "p", "p_holm", "n", "verdict", "detectable",
    "more_needed"}; difference is tuned - base.

    `verdict` is "better" or "worse" when p after Holm's correction over everything compared here is at most
    1 - confidence and the interval lies on that side of 0, else "cannot tell". `detectable` and `more_needed` (rows)
    are of a verdict after that correction (`eval.statistics.room_of`); `more_needed` is None with a verdict or without
    any difference. Shares of right answers also have "won" and "lost", the rows that
    only one model has right. `judged`: task → metric → a judge's entry (`eval.judge.summary`), corrected and judged
    together with the others. Raises DataError where the two were not measured alike.
    """
    base, tuned, fairness = list[Task](), list[Task](), Comparison()
    for dataset in _same_datasets(base_folder, tuned_folder):
        _check_alike(base_folder, tuned_folder, dataset)
        for folder, tasks in ((base_folder, base), (tuned_folder, tuned)):
            tasks += tasks_of(folder, dataset, metrics.get(dataset, ()))
        fairness |= fairness_changes(base_folder, tuned_folder, dataset, config)
    return compare_tasks(base, tuned, config, judged) | fairness


def compare_tasks(
    base: Sequence[Task], tuned: Sequence[Task], config: StatisticsConfig, judged: Comparison | None = None
) -> Comparison:
    """The same of tasks whose rows are pairs, in the same order for both models."""
    tests: list[tuple[str, Metric, PairedTest]] = []
    result = Comparison()
    for one, other in zip(base, tuned, strict=True):
        if one.key != other.key or one.rows.shape != other.rows.shape:
            raise _unlike(one.key, f"{len(one.rows)} rows of base and {len(other.rows)} of tuned ({other.key})")
        found = _tests(one, other, config)
        tests += [(one.key, metric, test) for metric, test in found]
        if found:
            result[one.key] = {metric.name: _discordant(one, other, metric) for metric, _ in found}
    _add_judged(result, tests, judged or {}, config)
    corrected = _corrected(tests)
    for key, metric, test in tests:
        p_holm = corrected[key, metric.hypothesis]
        result[key][metric.name] |= _entry(metric, test, p_holm, config.confidence, len(corrected))
    return result


def wins_and_regressions(
    base_folder: Path, tuned_folder: Path, dataset: str, count: int = 5, metric: str = "rougeL"
) -> dict[str, list[dict[str, Any]]]:
    """The rows that gained most and that lost most by a ROUGE measure: {"wins": [...], "regressions": [...]}, each at
    most `count` of {"id", "prompt", "reference", "base", "tuned", "base_score", "tuned_score", "difference"}."""
    if metric not in ROUGE:
        raise DataError(f"metric {metric}: not a score of single rows; allowed are {', '.join(ROUGE)}")
    _check_alike(base_folder, tuned_folder, dataset)
    base, tuned = (sorted_predictions(folder, dataset, "generation") for folder in (base_folder, tuned_folder))
    scores = [
        score_texts([row["output"] for row in rows], [row["reference"] for row in rows]) for rows in (base, tuned)
    ]
    rows = [
        {
            "id": before["id"],
            "prompt": before["prompt"],
            "reference": before["reference"],
            "base": before["output"],
            "tuned": after["output"],
            "base_score": before_score[metric],
            "tuned_score": after_score[metric],
            "difference": after_score[metric] - before_score[metric],
        }
        for before, after, before_score, after_score in zip(base, tuned, *scores, strict=True)
    ]
    ordered = sorted(rows, key=lambda row: (row["difference"], row["id"]))
    return {
        "wins": [row for row in reversed(ordered) if row["difference"] > 0][:count],
        "regressions": [row for row in ordered if row["difference"] < 0][:count],
    }


def _value(task: Task, metric: Metric) -> float:
    with np.errstate(over="ignore"):
        return float(metric.measure(task.rows[:, metric.columns].sum(axis=0)))


def _tests(base: Task, tuned: Task, config: StatisticsConfig) -> list[tuple[Metric, PairedTest]]:
    """Every metric of a task; without those that overflow, and without token perplexity across two tokenizers."""
    before, after = (_units(task.rows, base.clusters) for task in (base, tuned))
    resamples = resample(before, after, config)
    tests = []
    for metric in base.metrics:
        if metric.name == "token_perplexity" and not np.array_equal(base.rows[:, -1], tuned.rows[:, -1]):
            continue
        columns = metric.columns
        drawn = type(resamples)(*(sums[:, columns] for sums in resamples))
        with np.errstate(over="ignore", invalid="ignore"):
            test = paired_test(before[:, columns], after[:, columns], metric.measure, drawn, config)
        if all(map(math.isfinite, test[:6])):
            tests.append(_exactly(base, tuned, metric, test, tests))
    return tests


def _units(rows: np.ndarray, clusters: Sequence[str] | None) -> np.ndarray:
    """What is drawn and swapped: prompts, each the sum of its rows."""
    return rows if clusters is None else cluster_sums(rows, clusters)


def _exactly(
    base: Task, tuned: Task, metric: Metric, test: PairedTest, before: list[tuple[Metric, PairedTest]]
) -> tuple[Metric, PairedTest]:
    """Shares of right answers: with McNemar's p where no two rows share a prompt, and once where an earlier metric
    found the same answers right."""
    if metric.binary is None:
        return metric, test
    outcomes = [task.rows[:, metric.binary] for task in (base, tuned)]
    for other, _ in before:
        if other.binary is not None and all(
            np.array_equal(task.rows[:, other.binary], found)
            for task, found in zip((base, tuned), outcomes, strict=True)
        ):
            metric = metric._replace(hypothesis=other.hypothesis)
            break
    if test.n < len(base.rows):  # McNemar's rows have to be independent
        return metric, test
    return metric, test._replace(p=mcnemar(*(found.tolist() for found in outcomes)).p)


def _discordant(base: Task, tuned: Task, metric: Metric) -> dict[str, Any]:
    """The rows that only the tuned model, and that only the base has right."""
    if metric.binary is None:
        return {}
    exact = mcnemar(base.rows[:, metric.binary].tolist(), tuned.rows[:, metric.binary].tolist())
    return {"won": exact.won, "lost": exact.lost}


def _add_judged(
    result: Comparison, tests: list[tuple[str, Metric, PairedTest]], judged: Comparison, config: StatisticsConfig
) -> None:
    """A judge's win rates among the tests: the difference of both models' shares of wins, with the judge's p."""
    for key, entries in judged.items():
        for name, entry in entries.items():
            error = (entry["high"] - entry["low"]) / (2 * NormalDist().inv_cdf((1 + config.confidence) / 2))
            room = detectable_difference(error, config.confidence)
            more = more_needed(entry["difference"], error, entry["n"], config.confidence)
            test = PairedTest(**entry, detectable=room, more_needed=more)
            tests.append((key, Metric(name, name, slice(None), lambda sums: sums), test))
            result.setdefault(key, {})[name] = {}


def _corrected(tests: list[tuple[str, Metric, PairedTest]]) -> dict[tuple[str, str], float]:
    """Holm's p of each hypothesis of each task; units of one quantity share the p of the first."""
    first: dict[tuple[str, str], float] = {}
    for key, metric, test in tests:
        first.setdefault((key, metric.hypothesis), test.p)
    return dict(zip(first, holm(list(first.values())), strict=True))


def _entry(metric: Metric, test: PairedTest, p_holm: float, confidence: float, hypotheses: int) -> dict[str, Any]:
    verdict, room = "cannot tell", room_of(test, confidence, hypotheses)
    if p_holm <= 1 - confidence and (test.low > 0 or test.high < 0):
        verdict = "better" if (test.high < 0) == metric.lower_is_better else "worse"
        room = room._replace(more_needed=None)
    return {**test._asdict(), "p_holm": p_holm, "verdict": verdict, **room._asdict()}


def _same_datasets(base_folder: Path, tuned_folder: Path) -> list[str]:
    base, tuned = datasets_of(base_folder), datasets_of(tuned_folder)
    if base != tuned or not base:
        raise DataError(f"predictions: base has {base}, tuned has {tuned}; predict both models on the same data sets")
    return base


def _check_alike(base_folder: Path, tuned_folder: Path, dataset: str) -> None:
    base, tuned = read_policies(base_folder).get(dataset, {}), read_policies(tuned_folder).get(dataset, {})
    for name in _SAME_IN_POLICIES:
        if _way(base.get(name)) != _way(tuned.get(name)):
            found = f"{name} is {base.get(name)!r} for base and {tuned.get(name)!r} for tuned"
            raise _unlike(dataset, found, _ONE_TEMPLATE if name == "template_sha256" else _AGAIN)
    for measure in MEASURES:
        present = [predictions_path(folder, dataset, measure).exists() for folder in (base_folder, tuned_folder)]
        if present[0] != present[1]:
            raise _unlike(dataset, f"only {'base' if present[0] else 'tuned'} has {measure} predictions")
        if all(present):
            _check_rows(base_folder, tuned_folder, dataset, measure)


def _check_rows(base_folder: Path, tuned_folder: Path, dataset: str, measure: Measure) -> None:
    base, tuned = (
        {row["id"]: row for row in sorted_predictions(f, dataset, measure)} for f in (base_folder, tuned_folder)
    )
    only_base, only_tuned = base.keys() - tuned.keys(), tuned.keys() - base.keys()
    if only_base or only_tuned:
        example = min(only_base | only_tuned)
        counts = f"{len(only_base)} only in base, {len(only_tuned)} only in tuned"
        raise _unlike(dataset, f"the {measure} rows differ ({counts}, such as {example})")
    for name in _SAME_IN_ROWS[measure]:
        found = next((key for key in base if base[key][name] != tuned[key][name]), None)
        if found is not None:
            raise _unlike(dataset, f"the {name} of row {found} differs between base and tuned")


def _way(policy: Any) -> str:
    """A policy without what it tells of the model itself."""
    return _OF_THE_MODEL.sub("*", json.dumps(policy, sort_keys=True, ensure_ascii=False))


_AGAIN = "predict both models again with the same settings"
_ONE_TEMPLATE = "their chat templates differ: with template=plain both are asked alike"


def _unlike(dataset: str, difference: str, advice: str = _AGAIN) -> DataError:
    return DataError(f"{dataset}: cannot be compared, {difference}; {advice}")

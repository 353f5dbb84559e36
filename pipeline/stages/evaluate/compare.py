"""Two models' predictions of the same rows: differences with intervals, and the rows that changed most."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.artifacts import write_json
from pipeline.stages.evaluate.config import CompareConfig

SAMPLES_BY = "rougeL"
"""The score by which wins and regressions are found."""


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`comparison.json`: per task and metric base, tuned, difference, interval, p and verdict; samples beside it.

    Items that stand in the training data are left out of everything; `overlap` says how many there were.
    """
    from eval.predictions import read_policies

    asked = CompareConfig.model_validate(config)
    parts = ("base", "tuned", "scale", "comparison", "samples", "policies", "judge", "overlap")
    found: dict[str, Any] = {part: {} for part in parts}
    for dataset in track(asked.datasets, "compare"):
        base, tuned = inputs[f"base.{dataset}"], inputs[f"tuned.{dataset}"]
        if f"overlap.{dataset}" in inputs:
            base, tuned, found["overlap"][dataset] = _clean(inputs, dataset, out)
        _add(found, asked, inputs, dataset, (base, tuned))
        policies = read_policies(tuned)
        if "served" in policies.get(dataset, {}):  # the one policy in which the two models differ
            policies[dataset]["served_base"] = read_policies(base)[dataset]["served"]
        found["policies"] |= policies
    if asked.judge is not None and not found["judge"]:
        raise DataError(f"judge: none of {', '.join(asked.datasets)} has generated answers; remove the judge")
    write_json(out / "comparison.json", found)
    return {}


def _add(
    found: dict[str, Any], asked: CompareConfig, inputs: Mapping[str, Path], dataset: str, folders: tuple[Path, Path]
) -> None:
    """Everything about one data set."""
    from eval.compare import compare, summarise, wins_and_regressions
    from eval.ngram import baseline_value
    from eval.predictions import predictions_path, read_predictions

    base, tuned = folders
    verdicts = inputs.get(f"judge.{dataset}")
    judged = _judged(asked, verdicts, base, dataset) if verdicts else {}
    found["base"] |= summarise(base, asked.metrics)
    found["tuned"] |= summarise(tuned, asked.metrics)
    found["comparison"] |= compare(base, tuned, asked.statistics, asked.metrics, judged.get("comparisons"))
    if judged:
        found["tuned"][f"judge/{dataset}"] = judged["metrics"]
        found["judge"][dataset] = {name: judged[name] for name in ("card", "judges", "policy")}
    if predictions_path(tuned, dataset, "generation").exists():
        found["samples"][dataset] = wins_and_regressions(base, tuned, dataset, asked.samples, SAMPLES_BY)
    if f"baseline.{dataset}" in inputs:
        ids = {row["id"] for row in read_predictions(tuned, dataset, "perplexity")}
        found["scale"][dataset] = baseline_value(inputs[f"baseline.{dataset}"], ids)


def _judged(asked: CompareConfig, verdicts: Path, base: Path, dataset: str) -> dict[str, Any]:
    """What the verdicts amount to under these statistics and labels, without items of the training data."""
    from eval.judge.labelling import read_labels
    from eval.judge.run import SUMMARY, read_verdicts
    from eval.judge.summary import summarise_verdicts
    from eval.predictions import read_predictions

    if asked.judge is None or not (verdicts / SUMMARY).exists():
        return {}
    told = json.loads((verdicts / SUMMARY).read_text(encoding="utf-8"))
    ids = {row["id"] for row in read_predictions(base, dataset, "generation")}
    rows = [row for row in read_verdicts(verdicts) if row["id"] in ids]
    labels = read_labels(Path(asked.labels)) if asked.labels else None
    card = told["card"]
    known = card["self_preference"], card.get("injections")
    summary = summarise_verdicts(rows, asked.judge, asked.statistics, labels, *known)
    entries = {f"judge/{dataset}": summary["comparisons"]}
    return {**summary, "comparisons": entries, "judges": told["judges"], "policy": told["policy"]}


def _clean(inputs: Mapping[str, Path], dataset: str, out: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Both models' predictions without the items that stand in the training data, and what was left out."""
    from data_prep.curation.decontamination.overlap import CONTAMINATED
    from eval.predictions import copy_without

    lines = (inputs[f"overlap.{dataset}"] / CONTAMINATED).read_bytes().split(b"\n")
    items = [json.loads(line) for line in lines if line]
    sides: list[Path] = []
    of = 0
    for side in ("base", "tuned"):
        folder = out / "checkpoints" / side
        of = copy_without(inputs[f"{side}.{dataset}"], dataset, {item["id"] for item in items}, folder)
        sides.append(folder)
    examples = [{name: item[name] for name in ("id", "row_dataset", "row", "share", "text")} for item in items[:5]]
    return sides[0], sides[1], {"items": of, "removed": len(items), "examples": examples}

"""Two models' predictions of the same rows: differences with intervals, and the rows that changed most."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.artifacts import write_json
from pipeline.stages.evaluate.config import CompareConfig

SAMPLES_BY = "rougeL"
"""The score by which wins and regressions are found."""


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`comparison.json`: per task and metric base, tuned, difference, interval, p and verdict; samples beside it.

    Items that stand in the training data are left out of everything; `overlap` says how many there were.
    """
    from eval.compare import compare, summarise, wins_and_regressions
    from eval.predictions import predictions_path, read_policies

    asked = CompareConfig.model_validate(config)
    found: dict[str, Any] = {"base": {}, "tuned": {}, "comparison": {}, "samples": {}, "policies": {}, "overlap": {}}
    for dataset in track(asked.datasets, "compare"):
        base, tuned = inputs[f"base.{dataset}"], inputs[f"tuned.{dataset}"]
        if f"overlap.{dataset}" in inputs:
            base, tuned, found["overlap"][dataset] = _clean(inputs, dataset, out)
        found["base"] |= summarise(base)
        found["tuned"] |= summarise(tuned)
        found["comparison"] |= compare(base, tuned, asked.statistics)
        found["policies"] |= read_policies(tuned)
        if predictions_path(tuned, dataset, "generation").exists():
            found["samples"][dataset] = wins_and_regressions(base, tuned, dataset, asked.samples, SAMPLES_BY)
    write_json(out / "comparison.json", found)
    return {}


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

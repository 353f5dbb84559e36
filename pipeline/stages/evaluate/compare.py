"""Two models' predictions of the same rows: differences with intervals, and the rows that changed most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.artifacts import write_json
from pipeline.stages.evaluate.config import CompareConfig

SAMPLES_BY = "rougeL"
"""The score by which wins and regressions are found."""


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`comparison.json`: per task and metric base, tuned, difference, interval, p and verdict; samples beside it."""
    from eval.compare import compare, summarise, wins_and_regressions
    from eval.predictions import predictions_path, read_policies

    asked = CompareConfig.model_validate(config)
    found: dict[str, Any] = {"base": {}, "tuned": {}, "comparison": {}, "samples": {}, "policies": {}}
    for dataset in track(asked.datasets, "compare"):
        base, tuned = inputs[f"base.{dataset}"], inputs[f"tuned.{dataset}"]
        found["base"] |= summarise(base)
        found["tuned"] |= summarise(tuned)
        found["comparison"] |= compare(base, tuned, asked.statistics)
        found["policies"] |= read_policies(tuned)
        if predictions_path(tuned, dataset, "generation").exists():
            found["samples"][dataset] = wins_and_regressions(base, tuned, dataset, asked.samples, SAMPLES_BY)
    write_json(out / "comparison.json", found)
    return {}

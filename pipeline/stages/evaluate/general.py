"""General text for the forgetting check, read like any data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.config import DatasetConfig
from data_prep.load import load
from data_prep.progress import Track
from pipeline.stages.evaluate.config import GENERAL


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """The chosen rows as `test.jsonl`: the first by id, so a stable sample of the file."""
    dataset = DatasetConfig(
        source=config["source"],
        format="text",
        columns={} if config["column"] == "text" else {"text": config["column"]},
        role="eval",
        limit=config["max_rows"],
    )
    return {"rows": float(load(GENERAL, dataset, out, None, track)["rows"])}

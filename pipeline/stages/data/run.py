"""Read one data set into a dataset folder: canonical rows in splits, with counts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.config import DatasetConfig
from data_prep.load import load
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Rows of the source as `train.jsonl`, `validation.jsonl`, `test.jsonl`, and `stats.json`."""
    dataset = DatasetConfig.model_validate(config["dataset"])
    tokenizer = inputs["weights"] / "tokenizer.json" if "weights" in inputs else None
    stats = load(config["name"], dataset, out, tokenizer, track)
    return {"rows": stats["rows"], "read": stats["read"], "broken": stats["broken"], **stats["splits"]}

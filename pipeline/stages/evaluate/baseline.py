"""The yardstick of a data set: an n-gram model of its training rows, on the test rows that the models are scored on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from eval.config import NgramConfig
from eval.ngram import score_with_ngrams, write_baseline


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`baseline.jsonl`: sums per test row, as those of a model."""
    settings = NgramConfig(order=config["order"], max_bytes=config["max_bytes"])
    rows = score_with_ngrams(inputs["dataset"], settings, config["max_rows"], track)
    write_baseline(out, rows)
    return {"rows": float(len(rows))}

"""Judged answers as tokens, masks and their audit, before any training time is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from data_prep.tokens.answers import ANSWERS
from data_prep.tokens.config import PreferenceConfig
from pipeline.training.tokenise import tokenise


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with input_ids, labels and label, and `audit.json`."""
    return tokenise(PreferenceConfig, config, inputs, out, track, ANSWERS)

"""Pairs as tokens, masks and their audit, before any training time is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from data_prep.tokens.config import PreferenceConfig
from data_prep.tokens.preference import PAIRS
from pipeline.training.tokenise import tokenise


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with ids and labels of both sides, and `audit.json`."""
    return tokenise(PreferenceConfig, config, inputs, out, track, PAIRS)

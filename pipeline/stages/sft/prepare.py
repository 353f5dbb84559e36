"""Tokens, masks and their audit, before any training time is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.packed_rows import Packing
from data_prep.tokens.prepare import PACKED, SUPERVISED, Form
from pipeline.training.tokenise import tokenise

FORMS: dict[Packing, Form] = {"none": SUPERVISED, "best_fit": PACKED}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with input_ids and labels, and `audit.json`."""
    return tokenise(TokensConfig, config, inputs, out, track, FORMS[config["packing"]])

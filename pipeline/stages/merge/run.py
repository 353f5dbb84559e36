"""Merge adapters into weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.training.merging import save_merged


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`model/`: safetensors, tokenizer, chat template; compared with the adapter before anybody uses it."""
    return save_merged(inputs, out / "model", config["dtype"], config["trust_remote_code"])

"""Tokens, masks and their audit, before any training time is spent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.prepare import prepare


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with input_ids and labels, and `audit.json`."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(inputs["weights"], trust_remote_code=config["trust_remote_code"])
    asked = TokensConfig.model_validate({name: config[name] for name in TokensConfig.model_fields})
    within = asked.model_copy(update={"max_length": min(asked.max_length, _context(inputs["weights"]))})
    try:
        return prepare(inputs["dataset"], tokenizer, out, within, track)
    except DataError as error:  # data_prep names the keys of a stage called sft; this one may be called otherwise
        raise DataError(str(error).replace("stages.sft.", f"stages.{config['stage']}.")) from error


def _context(model: Path) -> int:
    """The longest sequence the model was made for, in tokens."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings") or config.get("n_positions") or 2**31)

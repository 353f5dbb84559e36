"""A model with another chat template: its files linked, its tokenizer saved with the template."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from data_prep.tokens.choose import choose_chat_template
from pipeline.training.models import load_tokenizer


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`model/` as before, but for the chat template; DataError when the tokenizer lacks a token of the template."""
    weights, folder = inputs["weights"], out / "model"
    tokenizer = load_tokenizer(weights, bool(config["trust_remote_code"]))
    try:
        choose_chat_template(tokenizer, "own" if config["text"] is not None else config["chosen"])
    except DataError as error:
        raise DataError(str(error).replace("stages.sft.", f"stages.{config['stage']}.")) from error
    tokenizer.chat_template = config["text"] or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    for file in weights.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(os.path.relpath(file, folder))  # outputs/ can be moved as a whole
    return {}

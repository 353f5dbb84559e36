"""Tokens, masks and their audit, before any training time is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.prepare import prepare
from pipeline.training.models import context_of_model, load_tokenizer
from pipeline.training.vocabulary import refuse_small_embeddings


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with input_ids and labels, and `audit.json`."""
    tokenizer = load_tokenizer(inputs["weights"], config["trust_remote_code"])
    asked = TokensConfig.model_validate({name: config[name] for name in TokensConfig.model_fields})
    refuse_small_embeddings(inputs["weights"], tokenizer)
    context = context_of_model(inputs["weights"])
    within = asked.model_copy(update={"max_length": min(asked.max_length, context or asked.max_length)})
    try:
        return prepare(inputs["dataset"], tokenizer, out, within, track)
    except DataError as error:  # data_prep names the keys of a stage called sft; this one may be called otherwise
        raise DataError(str(error).replace("stages.sft.", f"stages.{config['stage']}.")) from error

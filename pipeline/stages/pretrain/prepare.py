"""Documents as rows of tokens, before any training time is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from data_prep.tokens.corpus import prepare_corpus
from data_prep.tokens.corpus_config import CorpusConfig
from pipeline.training.models import Shape, context_of_model, load_tokenizer, shape_of_model
from pipeline.training.vocabulary import refuse_small_embeddings

OBJECTIVES: dict[Shape, str] = {"decoder": "causal", "encoder": "masked", "encoder_decoder": "denoising"}
"""What a model of each shape learns from."""


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/`, and `audit.json`."""
    asked, stage = CorpusConfig.model_validate(config["corpus"]), config["stage"]
    fitting = OBJECTIVES[shape_of_model(inputs["weights"])]
    if asked.objective != fitting:
        raise DataError(f"stages.{stage}.objective: {asked.objective} does not fit this model; set objective={fitting}")
    tokenizer = load_tokenizer(inputs["weights"], config["trust_remote_code"])
    refuse_small_embeddings(inputs["weights"], tokenizer)
    context = context_of_model(inputs["weights"])
    within = asked.model_copy(update={"max_length": min(asked.max_length, context or asked.max_length)})
    try:
        return prepare_corpus(inputs["dataset"], tokenizer, out, within, config["seed"], track)
    except DataError as error:  # data_prep names the keys of a stage called pretrain; this one may be called otherwise
        raise DataError(str(error).replace("stages.pretrain.", f"stages.{stage}.")) from error

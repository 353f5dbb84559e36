"""The rows of a stage that learns from answers, as tokens for the model that it starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from data_prep.tokens.config import RenderConfig
from data_prep.tokens.prepare import Form, prepare
from pipeline.training.models import context_of_model, load_tokenizer, shape_of_model
from pipeline.training.vocabulary import refuse_small_embeddings


def tokenise(
    settings: type[RenderConfig],
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    track: Track,
    form: Form,
) -> dict[str, float]:
    """`prepare` by those fields of `config` that are `settings`. DataError with the keys of the stage that asked."""
    weights, stage = inputs["weights"], config["stage"]
    if (shape := shape_of_model(weights)) != "decoder":
        raise DataError(
            f"stages.{stage}: the model is an {shape.replace('_', '–')}, and answers are learned by decoders (TRL has "
            "no trainer for others); train it in a stage of kind pretrain (objective=masked or denoising)"
        )
    tokenizer = load_tokenizer(weights, config["trust_remote_code"])
    refuse_small_embeddings(weights, tokenizer)
    asked = settings.model_validate({name: config[name] for name in settings.model_fields})
    within = asked.model_copy(
        update={"max_length": min(asked.max_length, context_of_model(weights) or asked.max_length)}
    )
    try:
        return prepare(inputs["dataset"], tokenizer, out, within, track, form)
    except DataError as error:  # data_prep names the keys of a stage called sft; this one may be called otherwise
        raise DataError(str(error).replace("stages.sft.", f"stages.{stage}.")) from error

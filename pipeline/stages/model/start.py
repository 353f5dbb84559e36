"""The first weights of an architecture, for a tokenizer that was trained before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.stages.model.run import count_parameters


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`model/` with random weights; its vocabulary is the tokenizer's."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"])
    torch.manual_seed(config["seed"])
    model = first_weights(config["architecture"], tokenizer)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return {"parameters": count_parameters(out / "model")}


def first_weights(architecture: Mapping[str, Any], tokenizer: Any) -> Any:
    """The language model of an architecture: causal, masked or sequence to sequence. DataError when it is none."""
    from transformers import AutoConfig

    from pipeline.models import ProvetuneConfig

    fields = {**architecture, **token_ids(tokenizer), "vocab_size": len(tokenizer)}
    kind = fields.pop("model_type", None)
    try:
        config: Any = ProvetuneConfig(**fields) if kind is None else AutoConfig.for_model(kind, **fields)
        return _auto_class(config).from_config(config)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"model.architecture: {' '.join(str(error).split())}") from error


def token_ids(tokenizer: Any) -> dict[str, int]:
    """Which ids pad, start and end a text; a decoder that reads an encoder starts with the pad token, as T5's."""
    found = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    found["decoder_start_token_id"] = tokenizer.pad_token_id
    return {name: value for name, value in found.items() if value is not None}


def _auto_class(config: Any) -> Any:
    """Families that can fill gaps are encoders, also where transformers could run them as decoders."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    from pipeline.models import ProvetuneConfig

    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    if isinstance(config, ProvetuneConfig):
        return AutoModelForMaskedLM if config.shape == "encoder" else AutoModelForCausalLM
    encoder = type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", False)
    return AutoModelForMaskedLM if encoder else AutoModelForCausalLM

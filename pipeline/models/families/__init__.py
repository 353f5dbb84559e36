"""Weights of other implementations as ours, and back: `from_hf(model)` and `to_hf(model, their_config)`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from ..config import ProvetuneConfig
from ..experts import Router
from ..model import ProvetunePreTrainedModel
from ..positions import Rotary
from ..sizes import HEADS
from . import decoders, encoders, mixtures
from .weights import Weight, to_ours, to_theirs


@dataclass(frozen=True)
class Family:
    """How to read a family's configuration, its weights, and the class that holds them in transformers."""

    configure: Callable[[Any], dict[str, Any]]
    weights: list[Weight]
    model: str


FAMILIES = {
    "llama": Family(decoders.llama, decoders.LLAMA_WEIGHTS, "LlamaForCausalLM"),
    "mistral": Family(decoders.mistral, decoders.LLAMA_WEIGHTS, "MistralForCausalLM"),
    "mixtral": Family(decoders.mixtral, decoders.MIXTRAL_WEIGHTS, "MixtralForCausalLM"),
    "qwen2": Family(decoders.qwen2, decoders.LLAMA_WEIGHTS, "Qwen2ForCausalLM"),
    "qwen3": Family(decoders.qwen3, decoders.LLAMA_WEIGHTS, "Qwen3ForCausalLM"),
    "gemma": Family(decoders.gemma, decoders.LLAMA_WEIGHTS, "GemmaForCausalLM"),
    "gemma2": Family(decoders.gemma2, decoders.GEMMA_WEIGHTS, "Gemma2ForCausalLM"),
    "gemma3_text": Family(decoders.gemma3, decoders.GEMMA_WEIGHTS, "Gemma3ForCausalLM"),
    "phi": Family(decoders.phi, decoders.PHI_WEIGHTS, "PhiForCausalLM"),
    "gpt2": Family(decoders.gpt2, decoders.GPT2_WEIGHTS, "GPT2LMHeadModel"),
    "deepseek_v2": Family(mixtures.deepseek_v2, mixtures.DEEPSEEK_WEIGHTS, "DeepseekV2ForCausalLM"),
    "deepseek_v3": Family(mixtures.deepseek_v3, mixtures.DEEPSEEK_WEIGHTS, "DeepseekV3ForCausalLM"),
    "llama4_text": Family(mixtures.llama4, mixtures.LLAMA4_WEIGHTS, "Llama4ForCausalLM"),
    "bert": Family(encoders.bert, encoders.BERT_WEIGHTS, "BertForMaskedLM"),
    "t5": Family(encoders.t5, encoders.T5_WEIGHTS, "T5ForConditionalGeneration"),
    "t5-gated": Family(encoders.t5, encoders.T5_GATED_WEIGHTS, "T5ForConditionalGeneration"),
    "bart": Family(encoders.bart, encoders.BART_WEIGHTS, "BartForConditionalGeneration"),
}
"""By transformers' `model_type`."""


def family_of(theirs: PreTrainedConfig) -> Family:
    """The family of a configuration; ValueError with the known ones."""
    gated = theirs.model_type == "t5" and getattr(theirs, "is_gated_act", False)
    found = FAMILIES.get("t5-gated" if gated else theirs.model_type)
    if found is None:
        raise ValueError(f"model_type={theirs.model_type!r}: must be one of {', '.join(FAMILIES)}; add a Family for it")
    return found


def from_hf(theirs: PreTrainedModel) -> ProvetunePreTrainedModel:
    """The same model in our modules, with the same weights, in the same mode and data type."""
    family = family_of(theirs.config)
    config = ProvetuneConfig(**family.configure(theirs.config))
    with torch.device("meta"):
        ours = HEADS[config.shape](config)
    ours = ours.to_empty(device=theirs.device).to(theirs.dtype)  # pyright: ignore
    for module in ours.modules():
        if isinstance(module, Rotary | Router):
            ours._init_weights(module)  # buffers that no checkpoint holds
    ours.tie_weights()
    ours.load_state_dict(to_ours(family.weights, theirs.state_dict()), strict=True)
    if ours.can_generate():
        ours.generation_config = theirs.generation_config
    return ours.train(theirs.training)


def to_hf(ours: ProvetunePreTrainedModel, theirs: PreTrainedConfig) -> PreTrainedModel:
    """The weights in transformers' own class for the configuration `theirs`; the same bits that `from_hf` read."""
    family = family_of(theirs)
    model = getattr(transformers, family.model)(theirs).to(device=ours.device, dtype=ours.dtype)
    model.load_state_dict(to_theirs(family.weights, ours.state_dict()), strict=True)
    return model.train(ours.training)

"""How large a model is, told by its shapes alone: no weight is allocated."""

from dataclasses import dataclass

import torch
from torch import nn

from .config import ProvetuneConfig
from .experts import Experts
from .heads import ProvetuneForCausalLM, ProvetuneForConditionalGeneration, ProvetuneForMaskedLM
from .model import ProvetunePreTrainedModel

HEADS: dict[str, type[ProvetunePreTrainedModel]] = {
    "decoder": ProvetuneForCausalLM,
    "encoder": ProvetuneForMaskedLM,
    "encoder_decoder": ProvetuneForConditionalGeneration,
}
"""The language model of each shape."""


@dataclass(frozen=True)
class Size:
    """Numbers of parameters; tied weights count once."""

    total: int
    active: int
    """Without the experts that a token does not meet."""
    embedding: int
    """The table of input embeddings, of which a token reads one row."""


def size_of(model: nn.Module, experts_per_token: int = 0) -> Size:
    """Parameters of a model, also on the meta device."""
    total = sum(parameter.numel() for parameter in model.parameters())
    idle = 0
    for module in model.modules():
        if isinstance(module, Experts):
            held = sum(parameter.numel() for parameter in module.parameters())
            idle += held * (module.num_experts - experts_per_token) // module.num_experts
    embedding = sum(p.numel() for name, p in model.named_parameters() if name.endswith("embed_tokens.weight"))
    return Size(total, total - idle, embedding)


def size(config: ProvetuneConfig) -> Size:
    """Parameters of that configuration's language model, without allocating any.

    The layers of multi-token prediction count, as they are trained; published figures leave them out.
    """
    with torch.device("meta"):
        model = HEADS[config.shape](config)
    model.tie_weights()
    return size_of(model, config.experts_per_token)

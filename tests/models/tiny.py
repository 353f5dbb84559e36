"""Tiny configurations of every axis, for tests of what all of them promise."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models import ProvetuneConfig, ProvetuneForCausalLM

BASE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GROUPED: dict[str, Any] = {"attention": "grouped_query", "num_key_value_heads": 2}
LATENT: dict[str, Any] = {
    "attention": "latent", "q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "multi_head": {},
    "multi_query": {"attention": "multi_query"},
    "grouped_query": GROUPED,
    "latent": LATENT,
    "latent-plain-query": LATENT | {"q_lora_rank": None, "positions": "none"},
    "sliding": GROUPED | {"pattern": "sliding", "sliding_window": 5},
    "interleaved": GROUPED | {"pattern": "interleaved", "local_per_global": 1, "sliding_window": 5},
    "chunked": {"layer_types": ["chunked_attention", "full_attention", "chunked_attention"], "attention_chunk_size": 5},
    "block_sparse": {"pattern": "block_sparse", "sparse_block_size": 3, "sparse_local_blocks": 2},
    "alibi": GROUPED | {"positions": "alibi"},
    "alibi-sliding": {"positions": "alibi", "pattern": "sliding", "sliding_window": 5},
    "t5": {"positions": "t5", "attention_scale": 1.0, "relative_buckets": 8, "relative_max_distance": 12},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "softcap": GROUPED | {"attention_softcap": 5.0, "logit_softcap": 5.0},
    "normed": GROUPED | {"qk_norm": "head", "norm_position": "sandwich"},
    "temperature": {"rope_layers": [True, False, True], "nope_temperature_scale": 0.5, "nope_temperature_floor": 3},
    "experts": {"num_experts": 4, "experts_per_token": 2},
}
"""Decoders whose attention, positions or cache differ."""


def config(**changes: Any) -> ProvetuneConfig:
    """A tiny configuration; decoders and encoders of two or three layers."""
    return ProvetuneConfig(**BASE | changes)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight random and large enough to matter."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(
                around + torch.randn_like(parameter) * (0.3 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5)
            )
    return model


def decoder(implementation: str = "sdpa", **changes: Any) -> ProvetuneForCausalLM:
    """A random causal LM for evaluation."""
    chosen = config(**changes)
    chosen._attn_implementation = implementation
    model = randomise(ProvetuneForCausalLM(chosen)).eval()
    assert isinstance(model, ProvetuneForCausalLM)
    return model


def ids(rows: int = 2, length: int = 20, seed: int = 1, vocabulary: int = 64) -> Tensor:
    """Random token ids (rows, length), none of them padding."""
    return torch.randint(1, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))

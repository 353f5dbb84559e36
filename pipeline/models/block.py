"""One layer: attention, perhaps cross-attention, feed-forward or experts, with norms before, after or around.

Post-norm arXiv:1706.03762, pre-norm arXiv:2002.04745, sandwich arXiv:2105.13290, parallel branches arXiv:2204.02311.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention, LatentAttention, LowRankAttention, Surroundings
from .config import ProvetuneConfig
from .experts import MixtureOfExperts
from .feed_forward import FeedForward
from .masks import Visibility
from .norms import make_norm


class Block(GradientCheckpointingLayer):
    """(B, T, C) → (B, T, C), and the loss of its router when it has one and trains."""

    def __init__(self, config: ProvetuneConfig, layer: int, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.config, self.position = config, config.norm_position
        self.self_attn = _self_attention(config, layer, causal)
        self.attention_norm = make_norm(config)
        self.cross_attn = Attention(config, layer, causal=False, cross=True) if cross else None
        self.cross_norm = make_norm(config) if cross else None
        if config.has_experts(layer):
            self.mlp: nn.Module = MixtureOfExperts(config)
        else:
            encoder_size = None if causal else config.encoder_intermediate_size
            self.mlp = FeedForward(config, encoder_size or config.intermediate_size)
        self.mlp_norm = None if config.parallel_residual else make_norm(config)
        sandwich = config.norm_position == "sandwich"
        self.attention_post_norm = make_norm(config) if sandwich else None
        self.cross_post_norm = make_norm(config) if sandwich and cross else None
        self.mlp_post_norm = make_norm(config) if sandwich else None

    def forward(
        self,
        x: Tensor,
        around: Surroundings,
        past_key_values: Cache | None = None,
        memory: Tensor | None = None,
        memory_seen: Visibility | None = None,
        real: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C); an encoder's output `memory` (B, S, C); `real` (B, T) false for padding."""
        before = self.position != "post"
        inner = self.attention_norm(x) if before else x
        attended, _ = self.self_attn(inner, around, past_key_values)
        if self.mlp_norm is None:
            changed, loss = self._feed_forward(inner, real)
            return x + self._drop(attended) + self._drop(changed), loss
        x = self._join(x, attended, self.attention_norm, self.attention_post_norm)
        if self.cross_attn is not None and self.cross_norm is not None and memory is not None:
            crossing = Surroundings(memory_seen or Visibility(), None, around.positions)
            inner = self.cross_norm(x) if before else x
            attended, _ = self.cross_attn(inner, crossing, past_key_values, memory)
            x = self._join(x, attended, self.cross_norm, self.cross_post_norm)
        changed, loss = self._feed_forward(self.mlp_norm(x) if before else x, real)
        return self._join(x, changed, self.mlp_norm, self.mlp_post_norm), loss

    def _join(self, x: Tensor, change: Tensor, norm: nn.Module, post_norm: nn.Module | None) -> Tensor:
        """Add a branch to the residual stream: normed after the sum (post), or itself before it (sandwich)."""
        change = self._drop(change)
        if self.position == "post":
            return norm(x + change)
        return x + (change if post_norm is None else post_norm(change))

    def _feed_forward(self, x: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.mlp(x, real) if isinstance(self.mlp, MixtureOfExperts) else (self.mlp(x), None)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x


def _self_attention(config: ProvetuneConfig, layer: int, causal: bool) -> nn.Module:
    if config.attention == "latent":
        return LatentAttention(config, layer, causal)
    if config.pattern == "low_rank":
        return LowRankAttention(config, layer, causal)
    return Attention(config, layer, causal)

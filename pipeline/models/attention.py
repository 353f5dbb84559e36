"""Attention of a layer: shared key heads, a compressed latent, or keys projected along the sequence.

Multi-head arXiv:1706.03762, multi-query arXiv:1911.02150, grouped-query arXiv:2305.13245, latent arXiv:2405.04434,
low-rank arXiv:2006.04768. All take and return (B, T, C), with the weights (B, H, T, S) when eager.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import EncoderDecoderCache

from .attend import attend
from .config import ProvetuneConfig
from .masks import Visibility
from .norms import RMSNorm, l2_norm, make_norm
from .positions import Rotation, rotate
from .start import residual_scale, scaled


@dataclass(frozen=True)
class Surroundings:
    """What a layer's attention needs to know of the forward pass."""

    seen: Visibility
    rotation: Rotation | None
    positions: Tensor
    """(B or 1, T) positions of the queries within their texts."""


class Attention(nn.Module):
    """Multi-head, multi-query or grouped-query attention, to itself or to an encoder's output."""

    def __init__(self, config: ProvetuneConfig, layer: int, causal: bool = True, cross: bool = False) -> None:
        super().__init__()
        assert config.head_dim is not None and config.num_key_value_heads is not None
        self.config, self.layer_idx, self.is_causal, self.cross = config, layer, causal, cross
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
        self.turns = not cross and config.has_rope(layer)
        heads, groups, bias = config.num_attention_heads, config.num_key_value_heads, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, heads * self.head_dim, bias=bias)
        if config.attention_scale == 1.0:  # T5: what the scores lack in scale, queries start with
            scaled(self.q_proj, self.head_dim**-0.5)
        self.k_proj = nn.Linear(config.hidden_size, groups * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, groups * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, config.hidden_size, bias=bool(config.attention_out_bias))
        scaled(self.o_proj, residual_scale(config))
        normed = config.qk_norm == "head" and not cross
        self.q_norm = make_norm(config, self.head_dim) if normed else None
        self.k_norm = make_norm(config, self.head_dim) if normed else None

    def forward(
        self, x: Tensor, around: Surroundings, past: Cache | None = None, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C), an encoder's output `memory` (B, S, C) → (B, T, C) and perhaps the weights (B, H, T, S)."""
        batch, length, _ = x.shape
        query = self.q_proj(x).view(batch, length, -1, self.head_dim)
        if self.q_norm is not None:
            query = self.q_norm(query)
        query = self._place(query.transpose(1, 2), around)  # (B, H, T, D)
        key, value = self._read_memory(memory, past) if memory is not None else self._read(x, around, past)
        mixed, weights = self._mix(query, key, value, around.seen)
        return self.o_proj(mixed.reshape(batch, length, -1)), weights

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> tuple[Tensor, Tensor | None]:
        config = self.config
        dropout = config.attention_dropout if self.training else 0.0
        kind = config._attn_implementation
        return attend(query, key, value, seen, self.scale, config.attention_softcap, dropout, kind)

    def _place(self, heads: Tensor, around: Surroundings, is_query: bool = True) -> Tensor:
        """RoPE, or on layers without it a temperature that grows with the position."""
        config = self.config
        if self.turns:
            assert around.rotation is not None
            heads = rotate(heads, around.rotation, config.rope_pairs)
            return l2_norm(heads, config.norm_eps) if config.qk_norm == "l2" else heads
        if is_query and not self.cross and config.nope_temperature_scale > 0:
            steps = torch.floor((around.positions.float() + 1) / config.nope_temperature_floor)
            growth = torch.log1p(steps) * config.nope_temperature_scale + 1  # (B or 1, T)
            return heads * growth[:, None, :, None].to(heads.dtype)
        return heads

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, C) → keys and values (B, K, S, D)."""
        key = self.k_proj(x).view(*x.shape[:2], -1, self.head_dim)
        value = self.v_proj(x).view(*x.shape[:2], -1, self.head_dim)
        if self.k_norm is not None:
            key = self.k_norm(key)
        return key.transpose(1, 2), value.transpose(1, 2)

    def _read(self, x: Tensor, around: Surroundings, past: Cache | None) -> tuple[Tensor, Tensor]:
        key, value = self._project(x)
        key = self._place(key, around, is_query=False)
        if isinstance(past, EncoderDecoderCache):
            past = past.self_attention_cache
        return (key, value) if past is None else past.update(key, value, self.layer_idx)

    def _read_memory(self, memory: Tensor, past: Cache | None) -> tuple[Tensor, Tensor]:
        """The encoder's keys and values never change while decoding: projected once, then taken from the cache."""
        if not isinstance(past, EncoderDecoderCache):
            return self._project(memory)
        if past.is_updated.get(self.layer_idx):
            kept = past.cross_attention_cache.layers[self.layer_idx]
            return kept.keys, kept.values  # pyright: ignore
        past.is_updated[self.layer_idx] = True
        return past.cross_attention_cache.update(*self._project(memory), self.layer_idx)


class LowRankAttention(Attention):
    """Linformer: keys and values are projected from S to R positions, so that the cost grows linearly with S."""

    def __init__(self, config: ProvetuneConfig, layer: int, causal: bool = False) -> None:
        super().__init__(config, layer, causal)
        size = (config.low_rank_size, config.max_position_embeddings)
        self.key_positions = nn.Parameter(torch.empty(size))  # (R, longest S)
        self.value_positions = nn.Parameter(torch.empty(size))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> tuple[Tensor, Tensor | None]:
        length, longest = key.shape[2], self.key_positions.shape[1]
        if length > longest:
            raise ValueError(f"{length} tokens: low_rank projects at most {longest}; raise max_position_embeddings")
        if seen.padding is not None:
            real = seen.padding[:, None, :, None].to(key.dtype)  # (B, 1, S, 1)
            key, value = key * real, value * real
        key = self.key_positions[:, :length] @ key  # (B, K, R, D)
        value = self.value_positions[:, :length] @ value
        return super()._mix(query, key, value, Visibility())


class LatentAttention(nn.Module):
    """DeepSeek's MLA: only a latent of `kv_lora_rank` values and one rotated key are cached for each token.

    One new token is decoded without expanding the cached latents: the up-projection of the keys moves to the query,
    that of the values to the result.
    """

    def __init__(self, config: ProvetuneConfig, layer: int, causal: bool = True) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer, causal
        heads, self.rank = config.num_attention_heads, config.kv_lora_rank
        self.plain, self.turned, self.value_dim = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        size = self.plain + self.turned
        self.scale = size**-0.5 if config.attention_scale is None else config.attention_scale
        if config.q_lora_rank:
            self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=False)
            self.q_a_norm = RMSNorm(config.q_lora_rank, config.norm_eps)
            self.q_b_proj = nn.Linear(config.q_lora_rank, heads * size, bias=False)
        else:
            self.q_proj = nn.Linear(config.hidden_size, heads * size, bias=False)
        self.kv_a_proj = nn.Linear(config.hidden_size, self.rank + self.turned, bias=False)
        self.kv_a_norm = RMSNorm(self.rank, config.norm_eps)
        self.kv_b_proj = nn.Linear(self.rank, heads * (self.plain + self.value_dim), bias=False)
        self.o_proj = nn.Linear(heads * self.value_dim, config.hidden_size, bias=bool(config.attention_out_bias))
        scaled(self.o_proj, residual_scale(config))

    def forward(self, x: Tensor, around: Surroundings, past: Cache | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) → (B, T, C) and perhaps the weights (B, H, T, S)."""
        batch, length, _ = x.shape
        query = self.q_b_proj(self.q_a_norm(self.q_a_proj(x))) if self.config.q_lora_rank else self.q_proj(x)
        query = query.view(batch, length, -1, self.plain + self.turned).transpose(1, 2)  # (B, H, T, D)
        latent, shared = self.kv_a_proj(x)[:, None].split([self.rank, self.turned], -1)  # (B, 1, T, R), (B, 1, T, Dr)
        latent = self.kv_a_norm(latent)
        plain, turned = query.split([self.plain, self.turned], -1)
        if around.rotation is not None and self.config.has_rope(self.layer_idx):
            turned = rotate(turned, around.rotation, self.config.rope_pairs)
            shared = rotate(shared, around.rotation, self.config.rope_pairs)
        if past is not None:
            latent, shared = past.update(latent, shared, self.layer_idx)
        plain_weight = type(self.kv_b_proj) is nn.Linear and type(self.kv_b_proj.weight) is nn.Parameter
        absorbs = (
            past is not None and length == 1 and plain_weight
        )  # an adapter hides it, tensor parallelism divides it
        if absorbs and self.config.attention_softcap is None and not self.config.output_attentions:
            mixed, weights = self._absorbed(plain, turned, latent, shared, around.seen), None
        else:
            mixed, weights = self._expanded(plain, turned, latent, shared, around.seen)
        return self.o_proj(mixed.reshape(batch, length, -1)), weights

    def _expanded(
        self, plain: Tensor, turned: Tensor, latent: Tensor, shared: Tensor, seen: Visibility
    ) -> tuple[Tensor, Tensor | None]:
        """Keys and values of every head, as when training."""
        batch, _, count, _ = latent.shape
        both = self.kv_b_proj(latent[:, 0]).view(batch, count, -1, self.plain + self.value_dim).transpose(1, 2)
        keys, value = both.split([self.plain, self.value_dim], -1)  # (B, H, S, Dn), (B, H, S, Dv)
        key = torch.cat((keys, shared.expand(-1, keys.shape[1], -1, -1)), -1)
        dropout = self.config.attention_dropout if self.training else 0.0
        softcap, kind = self.config.attention_softcap, self.config._attn_implementation
        return attend(torch.cat((plain, turned), -1), key, value, seen, self.scale, softcap, dropout, kind)

    def _absorbed(self, plain: Tensor, turned: Tensor, latent: Tensor, shared: Tensor, seen: Visibility) -> Tensor:
        """One query per head against the latents themselves: S·R instead of S·R·D products for each head."""
        weight = self.kv_b_proj.weight.view(-1, self.plain + self.value_dim, self.rank)
        to_keys, to_values = weight.split([self.plain, self.value_dim], 1)  # (H, Dn, R), (H, Dv, R)
        query = plain.transpose(0, 1).flatten(1, 2) @ to_keys  # (H, B, R)
        scores = query.transpose(0, 1) @ latent[:, 0].mT + turned[:, :, 0] @ shared[:, 0].mT  # (B, H, S)
        scores = scores * self.scale
        if seen.mask is not None:
            scores = scores.masked_fill(~seen.mask[:, 0], float("-inf"))
        weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(plain.dtype)
        mixed = (weights @ latent[:, 0]).transpose(0, 1) @ to_values.mT  # (H, B, Dv)
        return mixed.transpose(0, 1)

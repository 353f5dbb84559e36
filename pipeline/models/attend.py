"""Softmax attention, three ways with one meaning: eager (the reference), SDPA and flex-attention.

Queries (B, H, T, D), keys (B, K, S, D), values (B, K, S, Dv); K divides H and each key head serves H/K query heads
(grouped queries, arXiv:2305.13245). The result is (B, T, H, Dv).
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import Visibility


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Visibility,
    scale: float,
    softcap: float | None = None,
    dropout: float = 0.0,
    implementation: str | None = "sdpa",
) -> tuple[Tensor, Tensor | None]:
    """Mix the values; also the weights (B, H, T, S) when eager. SDPA has no soft-cap: eager takes those calls."""
    if implementation == "flex_attention":
        return _flex(query, key, value, seen, scale, softcap, dropout).transpose(1, 2), None
    if implementation == "eager" or softcap is not None:
        mixed, weights = _eager(query, key, value, seen, scale, softcap, dropout)
        return mixed.transpose(1, 2), weights
    return _sdpa(query, key, value, seen, scale, dropout).transpose(1, 2), None


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """(B, K, S, D) → (B, H, S, D), each key head for its group of query heads."""
    batch, groups, length, size = x.shape
    if groups == heads:
        return x
    return x[:, :, None].expand(-1, -1, heads // groups, -1, -1).reshape(batch, heads, length, size)


def _eager(
    query: Tensor, key: Tensor, value: Tensor, seen: Visibility, scale: float, softcap: float | None, dropout: float
) -> tuple[Tensor, Tensor]:
    heads = query.shape[1]
    scores = query @ repeat_heads(key, heads).transpose(-1, -2) * scale  # (B, H, T, S)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    mask = seen.mask
    if mask is None and seen.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, dropout, training=dropout > 0)
    return weights @ repeat_heads(value, heads), weights


def _sdpa(query: Tensor, key: Tensor, value: Tensor, seen: Visibility, scale: float, dropout: float) -> Tensor:
    batch, heads, length, _ = query.shape
    groups, mask, share = key.shape[1], seen.mask, False
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)
    if groups != heads and length == 1:  # one token: the group's heads stand in for its length, nothing is copied
        query = query.view(batch, groups, heads // groups, -1)
        if mask is not None and mask.shape[1] > 1:
            mask = mask.view(-1, groups, heads // groups, mask.shape[-1])
    elif groups != heads and mask is None:
        share = True
    elif groups != heads:
        key, value = repeat_heads(key, heads), repeat_heads(value, heads)
    mixed = F.scaled_dot_product_attention(
        query, key, value, mask, dropout, is_causal=mask is None and seen.causal, scale=scale, enable_gqa=share
    )
    return mixed.reshape(batch, heads, length, -1)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if torch.cuda.is_available() else flex_attention


def _flex(
    query: Tensor, key: Tensor, value: Tensor, seen: Visibility, scale: float, softcap: float | None, dropout: float
) -> Tensor:
    """Blocks of hidden keys are skipped on a GPU; score changes run inside the kernel (arXiv:2412.05496)."""
    from torch.nn.attention.flex_attention import create_block_mask

    if dropout > 0:
        raise ValueError(f"attention_dropout={dropout}: flex_attention has none; use attn_implementation=sdpa")
    mask, length, count = seen.mask, query.shape[2], key.shape[2]

    def change(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if softcap is not None:
            score = torch.tanh(score / softcap) * softcap
        if mask is not None and mask.dtype != torch.bool:
            score = score + mask[b % mask.shape[0], h % mask.shape[1], q, k]
        return score

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k if mask is None else mask[b % mask.shape[0], 0, q % mask.shape[2], k]

    blocks = None
    if (mask is None and seen.causal) or (mask is not None and mask.dtype == torch.bool):
        rows = 1 if mask is None else mask.shape[0]
        blocks = create_block_mask(visible, rows, None, length, count, device=str(query.device))
    shared = key.shape[1] != query.shape[1]
    return _compiled_flex()(query, key, value, change, blocks, scale=scale, enable_gqa=shared)

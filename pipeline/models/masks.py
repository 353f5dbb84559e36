"""Which keys a query sees: causality, padding, packed documents, windows, chunks and sparse blocks.

A slot is a token's column in the batch, counted over the cached past; a place is its position within its own text,
after left padding or within its document.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from .config import ProvetuneConfig


@dataclass(frozen=True)
class Visibility:
    """What one kind of layer may see in one forward pass."""

    mask: Tensor | None = None
    """(B or 1, 1 or H, T, S): bool, true where seen, or float, added to the scores; None: everything, or causal."""
    causal: bool = False
    """Without a mask: only keys up to the query; T equals S then."""
    padding: Tensor | None = None
    """(B, S) bool, false for padding; None when there is none."""


@dataclass(frozen=True)
class Slots:
    """Where the queries and the keys of a forward pass stand."""

    queries: Tensor  # (T,)
    keys: Tensor  # (S,)
    aligned: bool
    """The last key is the last query's own, so that no key lies in the future of a single query."""
    padding: Tensor | None  # (B, S) bool
    documents: Tensor | None  # (B, T) number of the document
    places: tuple[Tensor, Tensor]  # (B or 1, T), (B or 1, S)


def packed_documents(position_ids: Tensor | None) -> Tensor | None:
    """Number of each token's document where positions restart within a row, (B, T); None when none restarts."""
    if position_ids is None or position_ids.shape[-1] < 2:
        return None
    starts = torch.zeros_like(position_ids, dtype=torch.bool)
    starts[:, 1:] = position_ids.diff(dim=-1) != 1
    if not torch.compiler.is_compiling() and not starts.any():
        return None
    return starts.cumsum(-1)


def slots(length: int, past: Cache | None, layer: int, attention_mask: Tensor | None, position_ids: Tensor) -> Slots:
    """Slots of `length` new tokens after `past`, as that layer's cache keeps them.

    `attention_mask` (B, all slots so far) marks padding; without it and without a past, restarting `position_ids`
    (B, T) mark packed documents.
    """
    device = position_ids.device
    first: int | Tensor = 0
    count, offset = length, 0
    if past is not None:
        first = past.get_query_offset(layer)
        count, offset = past.get_mask_sizes(length, layer)
    queries = torch.arange(length, device=device) + first
    keys = torch.arange(offset, offset + count, device=device)
    aligned = isinstance(first, int) and offset + count == first + length
    padding, left = None, None
    if attention_mask is not None and (torch.compiler.is_compiling() or not attention_mask.all()):
        seen = attention_mask.bool()
        left = (seen.cumsum(-1) == 0).sum(-1, keepdim=True)  # (B, 1)
        padding = torch.nn.functional.pad(seen, (0, max(0, offset + count - seen.shape[-1])))
        padding = padding[:, offset : offset + count]
    documents = packed_documents(position_ids) if attention_mask is None and aligned and count == length else None
    places = (queries[None], keys[None])
    if documents is not None:
        places = (position_ids, position_ids)
    elif left is not None:
        places = (queries - left, keys - left)
    return Slots(queries, keys, aligned, padding, documents, places)


def visibility(config: ProvetuneConfig, kind: str, causal: bool, at: Slots, bias: Tensor | None = None) -> Visibility:
    """What layers of that kind see; `bias` (1, H, T, S) is added to the scores and makes the mask a float."""
    length, count = len(at.queries), len(at.keys)
    everything = at.padding is None and at.documents is None and at.aligned and not _cuts(config, kind, count)
    if everything and bias is None and (not causal or length == 1 or length == count):
        return Visibility(None, causal and length > 1)
    allowed = _pattern(config, kind, causal, at)
    if at.padding is not None:
        allowed = allowed & at.padding[:, None, :]
    if at.documents is not None:
        allowed = allowed & (at.documents[:, :, None] == at.documents[:, None, :])
    allowed = allowed | (at.queries[:, None] == at.keys)  # padding sees itself: a row of nothing would be NaN
    mask = allowed[:, None]  # (B or 1, 1, T, S)
    if bias is not None:
        mask = bias.masked_fill(~mask, float("-inf"))
    return Visibility(mask, False, at.padding)


def _cuts(config: ProvetuneConfig, kind: str, keys: int) -> bool:
    """Whether the kind hides any of that many newest keys from the last query, or from earlier ones."""
    if kind == "sliding_attention":
        return keys > (config.sliding_window or keys)
    if kind == "chunked_attention":
        return True
    return config.pattern == "block_sparse" and keys > config.sparse_block_size * config.sparse_local_blocks


def _pattern(config: ProvetuneConfig, kind: str, causal: bool, at: Slots) -> Tensor:
    """(B or 1, T, S): what the kind of layer shows, before padding and documents."""
    query, key = at.queries[:, None], at.keys[None, :]  # (T, 1), (1, S)
    allowed = (key <= query) if causal else torch.ones_like(key <= query)
    allowed = allowed[None]  # (1, T, S)
    places, others = at.places[0][:, :, None], at.places[1][:, None, :]  # (B or 1, T, 1), (B or 1, 1, S)
    if kind == "sliding_attention":
        assert config.sliding_window is not None
        allowed = allowed & ((query - key).abs() < config.sliding_window)
    elif kind == "chunked_attention":
        assert config.attention_chunk_size is not None
        allowed = allowed & (places // config.attention_chunk_size == others // config.attention_chunk_size)
    elif config.pattern == "block_sparse":
        size = config.sparse_block_size
        own, other = places // size, others // size
        near = (own - other).abs() < config.sparse_local_blocks
        allowed = allowed & (near | (other < config.sparse_global_blocks))
    return allowed


def cross_visibility(attention_mask: Tensor | None) -> Visibility:
    """What a decoder sees of the encoder: everything but padding, given (B, S)."""
    if attention_mask is None or (not torch.compiler.is_compiling() and attention_mask.all()):
        return Visibility()
    seen = attention_mask.bool()
    return Visibility(seen[:, None, None, :], False, seen)

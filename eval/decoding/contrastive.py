"""Contrastive search (Su et al. 2022, arXiv:2202.06417) for any causal model of transformers that keeps a cache.

`generate` had it until transformers 5. A model runs it through `generate(custom_generate=contrastive_search)`, which
brings the processors and the stopping criteria.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache


@torch.no_grad()
def contrastive_search(
    model: Any,
    input_ids: Tensor,
    logits_processor: Callable[[Tensor, Tensor], Tensor] | None = None,
    stopping_criteria: Callable[[Tensor, Any], Tensor] | None = None,
    generation_config: Any = None,
    candidates: int = 4,
    alpha: float = 0.6,
    **given: Any,
) -> Tensor:
    """Of the k likeliest tokens, the one with the best (1 − α)·probability − α·likeness to any token before it.

    Likeness is the cosine of the last hidden states; α = 0 is greedy. Ids (B, T) → (B, T + new). One pass of B·k rows
    for each new token. ValueError for an α outside 0 to 1 or no candidates.
    """
    _refuse(alpha, candidates)
    batch = input_ids.shape[0]
    rows = torch.arange(batch, device=input_ids.device)
    mask = given.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    cache = given.get("past_key_values") or DynamicCache(config=model.config)
    hidden, logits = _step(model, input_ids, mask, cache)
    history = F.normalize(hidden.float(), dim=-1)  # (B, T, C)
    pad, finished = _pad_token(model, generation_config), torch.zeros_like(rows, dtype=torch.bool)
    while not finished.all():
        scores = logits.float() if logits_processor is None else logits_processor(input_ids, logits.float())
        best = scores.softmax(-1).topk(candidates, -1)  # (B, k)
        cache.batch_repeat_interleave(candidates)
        longer = F.pad(mask, (0, 1), value=1)
        hidden, logits = _step(model, best.indices.view(-1, 1), longer.repeat_interleave(candidates, 0), cache)
        tried = F.normalize(hidden[:, -1].float(), dim=-1).view(batch, candidates, -1)  # (B, k, C)
        chosen = _least_alike(best.values, tried, history, mask, alpha)  # (B,)
        kept = rows * candidates + chosen
        cache.batch_select_indices(kept)
        history = torch.cat((history, tried[rows, chosen][:, None]), 1)
        logits, mask = logits[kept], longer
        token = best.indices[rows, chosen].masked_fill(finished, pad)
        input_ids = torch.cat((input_ids, token[:, None]), -1)
        finished = finished | (stopping_criteria(input_ids, None) if stopping_criteria else False)
    return input_ids


def _refuse(alpha: float, candidates: int) -> None:
    if not 0 <= alpha <= 1 or candidates < 1:
        raise ValueError(f"alpha={alpha}, candidates={candidates}: alpha must be from 0 to 1, candidates at least 1")


def _least_alike(probability: Tensor, tried: Tensor, history: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """Probabilities (B, k), candidates' states (B, k, C) against all before (B, T, C) → chosen candidates (B,)."""
    likeness = (tried @ history.mT).masked_fill(mask[:, None] == 0, -1).amax(-1)  # (B, k)
    return ((1 - alpha) * probability - alpha * likeness).argmax(-1)


def _step(model: Any, ids: Tensor, mask: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """New ids (B, T) → last hidden states (B, T, C) and the last token's logits (B, V)."""
    places = {}
    if "position_ids" in inspect.signature(model.forward).parameters:
        places["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    out = model(ids, attention_mask=mask, past_key_values=cache, use_cache=True, output_hidden_states=True, **places)
    return out.hidden_states[-1], out.logits[:, -1]


def _pad_token(model: Any, generation_config: Any) -> int:
    for holder in (generation_config, model.generation_config):
        for name in ("pad_token_id", "eos_token_id"):
            value = getattr(holder, name, None)
            if value is not None:
                return int(value[0] if isinstance(value, list) else value)
    return 0

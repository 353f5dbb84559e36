"""Decoding beyond `generate`, for these models and any other causal LM of transformers.

Contrastive search arXiv:2202.06417, self-consistency arXiv:2203.11171, budget forcing arXiv:2501.19393. Greedy, beam,
temperature, top-k, top-p and min-p are `generate`'s own; `decode` takes all of them by one name and its settings.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache, StoppingCriteria, StoppingCriteriaList

METHODS = ("generate", "contrastive")


def decode(model: Any, inputs: Mapping[str, Tensor], method: str = "generate", **settings: Any) -> Tensor:
    """Prompt and continuation (B, T + new) by the settings of one method.

    `inputs` holds input_ids (B, T) and attention_mask, padded on the left. ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: must be one of {', '.join(METHODS)}")
    if method == "contrastive":
        settings = {"do_sample": False, "num_beams": 1, **settings, "custom_generate": contrastive_search}
    return model.generate(**inputs, **settings)


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

    Likeness is the cosine of the last hidden states; α = 0 is greedy. `generate(custom_generate=…)` brings processors
    and stopping criteria; ids (B, T) → (B, T + new). One pass of B·k rows for each new token.
    """
    if not 0 <= alpha <= 1 or candidates < 1:
        raise ValueError(f"alpha={alpha}, candidates={candidates}: alpha must be from 0 to 1, candidates at least 1")
    batch = input_ids.shape[0]
    rows = torch.arange(batch, device=input_ids.device)
    mask = given.get("attention_mask", torch.ones_like(input_ids))
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


@dataclass(frozen=True)
class Vote:
    """What several answers agree on."""

    answer: str | None
    """The most frequent one; the first of equals. None when no text held an answer."""
    share: float
    """Part of all texts that gave it."""
    counts: dict[str, int]


def vote(texts: Sequence[str], extract: Callable[[str], str | None]) -> Vote:
    """Self-consistency: the answer that most texts reach, by whatever reasoning."""
    answers = [answer for answer in map(extract, texts) if answer is not None]
    counts = Counter(answers)
    if not counts:
        return Vote(None, 0.0, {})
    best = max(counts, key=lambda answer: (counts[answer], -answers.index(answer)))
    return Vote(best, counts[best] / len(texts), dict(counts))


def self_consistent(
    model: Any, tokenizer: Any, prompt: str, extract: Callable[[str], str | None], samples: int = 8, **settings: Any
) -> Vote:
    """Sample several continuations of one prompt and vote; `settings` are those of `generate`."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    found = decode(model, inputs, **{"do_sample": True, **settings}, num_return_sequences=samples)
    return vote(tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True), extract)


class _Ends(StoppingCriteria):
    """Stop once the tokens end with a sequence."""

    def __init__(self, ending: Sequence[int]) -> None:
        self.ending = list(ending)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # pyright: ignore
        stop = [row[-len(self.ending) :] == self.ending for row in input_ids.tolist()]
        return torch.tensor(stop, device=input_ids.device)


def budget_forced(
    model: Any,
    prompt: Tensor,
    end: Sequence[int],
    wait: Sequence[int],
    least: int,
    most: int,
    answer_tokens: int,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Think for `least` to `most` tokens, then answer; prompt (1, T) → thoughts (1, ≤ most) and answer (1, …).

    A thought that ends early has its `end` tokens replaced by `wait`; one that reaches `most` is cut. `end` and `wait`
    are token ids, such as those of "</think>" and "Wait". ValueError for a batch or an empty budget.
    """
    if prompt.shape[0] != 1 or not 0 <= least <= most or most < 1 or not end or not wait:
        rows = prompt.shape[0]
        raise ValueError(
            f"rows={rows}, least={least}, most={most}: one prompt, 0 <= least <= most and some end and wait"
        )
    start, tokens = prompt.shape[1], prompt
    ends = StoppingCriteriaList([_Ends(end)])
    closing, waiting = (torch.tensor([ids], device=prompt.device) for ids in (list(end), list(wait)))
    silent = {**settings, "eos_token_id": None}
    while (left := most - (tokens.shape[1] - start)) > 0:
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        tokens = decode(model, inputs, **silent, max_new_tokens=left, stopping_criteria=ends)
        if tokens[0, start:].tolist()[-len(end) :] != list(end):
            break
        tokens = tokens[:, : -len(end)]
        if tokens.shape[1] - start >= least:
            break
        tokens = torch.cat((tokens, waiting), 1)
    tokens = tokens[:, : start + most]
    thoughts = tokens[:, start:]
    tokens = torch.cat((tokens, closing), 1)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    answer = decode(model, inputs, **settings, max_new_tokens=answer_tokens)
    return thoughts, answer[:, tokens.shape[1] :]

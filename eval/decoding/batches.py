"""Whole batches through `model.generate`: what looks further than one token, and models whose caches cannot be joined.

A batch takes as long as its longest answer; `eval.decoding.slots` is faster where it can be used.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from eval.decoding.choose import Choose, Request, Row, refuse_nan
from eval.decoding.config import BeamDecoding, ContrastiveDecoding, DecodingConfig
from eval.decoding.contrastive import contrastive_search


def answer_in_batches(
    model: Any,
    requests: Sequence[Request],
    decoding: DecodingConfig,
    choose: Choose,
    stops: frozenset[int],
    pad: int,
    size: int,
) -> Iterator[Row]:
    """Answer the requests in their order, `size` at a time; a search looks as far as the batch's longest answer."""
    for start in range(0, len(requests), size):
        rows = [Row(request) for request in requests[start : start + size]]
        for row, tokens in zip(rows, _generated(model, rows, decoding, choose, stops, pad), strict=True):
            ends = (place for place, token in enumerate(tokens) if token in stops)
            row.tokens = tokens[: min(next(ends, len(tokens)) + 1, row.request.new_tokens)]
            yield row


@torch.inference_mode()
def _generated(
    model: Any, rows: Sequence[Row], decoding: DecodingConfig, choose: Choose, stops: frozenset[int], pad: int
) -> list[list[int]]:
    """New tokens of each row, padded to one length."""
    width = max(len(row.request.prompt) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, width - len(row.request.prompt) :] = torch.tensor(row.request.prompt)
        mask[place, width - len(row.request.prompt) :] = 1
    searching = isinstance(decoding, BeamDecoding | ContrastiveDecoding)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(row.request.new_tokens for row in rows),
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad,
        **_beams(decoding),
    )
    with _only_these(model, settings):
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Named(rows) if searching else _Chosen(rows, choose)]),
            **_search(decoding),
        )
    return output[:, width:].tolist()


def _beams(decoding: DecodingConfig) -> dict[str, Any]:
    if not isinstance(decoding, BeamDecoding):
        return {"num_beams": 1}
    return {
        "num_beams": decoding.beams,
        "length_penalty": decoding.length_penalty,
        "early_stopping": decoding.early_stopping,
    }


def _search(decoding: DecodingConfig) -> dict[str, Any]:
    if not isinstance(decoding, ContrastiveDecoding):
        return {}
    return {
        "custom_generate": contrastive_search,
        "candidates": decoding.candidates,
        "alpha": decoding.alpha,
    }


class _Chosen(LogitsProcessor):
    """Leaves `generate` no token but the one that was chosen."""

    def __init__(self, rows: Sequence[Row], choose: Choose) -> None:
        self._rows, self._choose = rows, choose

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore
        tokens = self._choose(scores, self._rows)
        for row, token in zip(self._rows, tokens, strict=True):
            row.tokens.append(token)
        places = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, places, 0.0)


class _Named(LogitsProcessor):
    """Names the row whose logits are NaN; changes nothing."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows, self._steps = rows, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore
        self._steps += 1
        beams = scores.shape[0] // len(self._rows)
        refuse_nan(scores, [row for row in self._rows for _ in range(beams)], self._steps)
        return scores


@contextlib.contextmanager
def _only_these(model: Any, settings: Any) -> Iterator[None]:
    """`generate` fills what `settings` leaves open from the model's own defaults (temperature, repetition penalty,
    forced tokens ...); for the time of the call there are none."""
    own = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = own

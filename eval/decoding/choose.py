"""The next token of every row: the likeliest, or a random one by the row's own stream of numbers."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.errors import DataError
from eval.decoding.config import DecodingConfig, SampleDecoding


class Request(NamedTuple):
    """A prompt to continue."""

    id: str
    prompt: Sequence[int]
    new_tokens: int
    """The longest answer."""
    number: int = 0
    """Which of several answers to one prompt: each has random numbers of its own."""


@dataclass(slots=True)
class Row:
    """A request that is being answered; the stop token, where one ends the answer, is its last."""

    request: Request
    tokens: list[int] = field(default_factory=list[int])
    stream: np.random.Generator | None = None
    log_probabilities: list[float] | None = None
    """Of each token, where they were asked for."""


Choose = Callable[[Tensor, Sequence[Row]], list[int]]
"""Logits (B, V) of rows → the next token of each."""


def chooser(decoding: DecodingConfig) -> Choose:
    """How the next tokens are chosen one by one: greedy, but for sampling.

    It raises DataError that names the row whose logits are NaN.
    """
    if not isinstance(decoding, SampleDecoding):
        return _likeliest
    warp, seed = _warper(decoding), decoding.seed

    def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
        refuse_nan(logits, rows)
        for row in rows:
            row.stream = row.stream or _stream(seed, row.request)
        numbers = torch.tensor([row.stream.random() for row in rows if row.stream], dtype=torch.float64)
        return drawn(warp(logits.float()), numbers.to(logits.device)).tolist()

    return choose


def seed_of(seed: int, request: Request) -> int:
    """A number of 128 bits that belongs to this answer alone, whatever it is batched with."""
    digest = hashlib.sha256(f"{seed} {request.number} {request.id}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def drawn(scores: Tensor, numbers: Tensor) -> Tensor:
    """Tokens (B,) where the cumulative probability of scores (B, V) passes the numbers (B,) from [0, 1)."""
    cumulative = scores.double().softmax(-1).cumsum(-1)
    places = torch.searchsorted(cumulative, (numbers * cumulative[:, -1])[:, None], right=True)[:, 0]
    # Rounding may lead past the last token that can be drawn.
    last = (scores > -torch.inf).long().cumsum(-1).argmax(-1)
    return torch.minimum(places, last)


def refuse_nan(logits: Tensor, rows: Sequence[Row], step: int | None = None) -> None:
    """DataError that names the row whose logits (B, V) hold NaN. Minus infinity bars a token and is no fault."""
    if not torch.isnan(logits.sum()):
        return
    for row, bad in zip(rows, torch.isnan(logits).any(-1).tolist(), strict=True):
        if bad:
            raise DataError(
                f"row {row.request.id}: the model's logits are not finite at new token {step or len(row.tokens) + 1}; "
                "check the weights, or evaluate in float32"
            )


def _likeliest(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    refuse_nan(logits, rows)
    return logits.float().argmax(-1).tolist()


def _warper(decoding: SampleDecoding) -> Callable[[Tensor], Tensor]:
    """What `generate` does to scores before it samples, in its order."""
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps = LogitsProcessorList()
    if decoding.temperature != 1:
        steps.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k is not None:
        steps.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None:
        steps.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p is not None:
        steps.append(MinPLogitsWarper(decoding.min_p))
    nothing: Any = None  # none of them reads the tokens before
    return lambda scores: steps(nothing, scores)


def _stream(seed: int, request: Request) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed_of(seed, request)))

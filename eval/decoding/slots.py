"""Continuous batching: a row that has its answer leaves the batch, and the next prompt takes its place.

`generate` goes on until the longest answer of a batch is finished, so that most of its work is on rows that are done.
Here every forward pass is of rows that still want a token (Yu et al. 2022, Orca).
"""

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache

from eval.decoding.caches import can_join, join, keep_rows
from eval.decoding.choose import Choose, Request, Row
from eval.decoding.prompts import Prompts


class Slots:
    """The rows that are being answered, with their cache."""

    def __init__(self, model: Any, choose: Choose, stops: frozenset[int], prompts: Sequence[Sequence[int]], pad: int):
        self.rows: list[Row] = []
        self._model, self._choose, self._stops = model, choose, stops
        self._cache: Cache | None = None
        self._mask = torch.empty(0)
        self._takes = inspect.signature(model.forward).parameters
        self._prompts = Prompts(model.config, self._forward, prompts, pad)

    @torch.inference_mode()
    def admit(self, requests: Sequence[Request]) -> list[Row]:
        """Read the prompts and choose their first tokens; returns the rows that are finished with it."""
        logits, mask, cache = self._prompts.read([request.prompt for request in requests])
        mask, rows = mask.to(self._model.device), [Row(request) for request in requests]
        self._append(logits, rows)
        if self._cache is None or not self.rows:
            self.rows, self._cache, self._mask = rows, cache, mask
        else:
            self._mask, self.rows = join(self._cache, self._mask, cache, mask), self.rows + rows
        return self._leave()

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One more token for every row; returns those that are finished with it."""
        assert self._cache is not None
        last = torch.tensor([[row.tokens[-1]] for row in self.rows])
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._append(self._forward(last, self._mask, self._cache), self.rows)
        return self._leave()

    def _forward(self, ids: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """New ids (B, T) behind the cache, mask (B, S) of both → logits (B, V) of the last."""
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self._takes else {}
        if "position_ids" in self._takes:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self._model(ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more).logits[:, -1]

    def _append(self, logits: Tensor, rows: Sequence[Row]) -> None:
        for row, token in zip(rows, self._choose(logits, rows), strict=True):
            row.tokens.append(token)

    def _leave(self) -> list[Row]:
        done = [row.tokens[-1] in self._stops or len(row.tokens) >= row.request.new_tokens for row in self.rows]
        if not any(done):
            return []
        finished = [row for row, ended in zip(self.rows, done, strict=True) if ended]
        left = [place for place, ended in enumerate(done) if not ended]
        if left and self._cache is not None:
            self._mask = keep_rows(self._cache, self._mask, left)
        self.rows = [self.rows[place] for place in left]
        return finished


def fits_slots(model: Any) -> bool:
    """Whether rows of this model's cache can come and go; recurrent states and an adapter's virtual tokens cannot."""
    needed = {"attention_mask", "past_key_values", "use_cache"}
    if not needed <= inspect.signature(model.forward).parameters.keys() or hasattr(model, "active_peft_config"):
        return False
    return model._supports_default_dynamic_cache() and can_join(DynamicCache(config=model.config))


def answer_in_slots(
    model: Any, requests: Sequence[Request], choose: Choose, stops: frozenset[int], pad: int, size: int
) -> Iterator[Row]:
    """Answer the requests in their order, `size` at a time; rows as they are finished."""
    waiting, prompts = deque(requests), [request.prompt for request in requests]
    slots = Slots(model, choose, stops, prompts, pad)
    while waiting or slots.rows:
        if free := min(size - len(slots.rows), len(waiting)):
            yield from slots.admit([waiting.popleft() for _ in range(free)])
        else:
            yield from slots.step()

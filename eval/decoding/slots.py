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


class Slots:
    """The rows that are being answered, with their cache."""

    def __init__(self, model: Any, choose: Choose, stops: frozenset[int], pad: int) -> None:
        self.rows: list[Row] = []
        self._model, self._choose, self._stops, self._pad = model, choose, stops, pad
        self._cache: Cache | None = None
        self._mask = torch.empty(0)
        self._takes = inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def admit(self, requests: Sequence[Request]) -> list[Row]:
        """Read the prompts and choose their first tokens; returns the rows that are finished with it."""
        width = max(len(request.prompt) for request in requests)
        ids = torch.full((len(requests), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[row, width - len(request.prompt) :] = 1
        mask = mask.to(self._model.device)
        cache, rows = DynamicCache(config=self._model.config), [Row(request) for request in requests]
        self._next(ids.to(self._model.device), mask, cache, rows)
        if self._cache is None or not self.rows:
            self.rows, self._cache, self._mask = rows, cache, mask
        else:
            self._mask, self.rows = join(self._cache, self._mask, cache, mask), self.rows + rows
        return self._leave()

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One more token for every row; returns those that are finished with it."""
        assert self._cache is not None
        last = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self._model.device)
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._next(last, self._mask, self._cache, self.rows)
        return self._leave()

    def _next(self, ids: Tensor, mask: Tensor, cache: Cache, rows: Sequence[Row]) -> None:
        """New ids (B, T) of rows whose cache and mask (B, S) are given: append the token that follows to each."""
        more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self._takes else {}
        if "position_ids" in self._takes:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._model(ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more)
        for row, token in zip(rows, self._choose(out.logits[:, -1], rows), strict=True):
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
    waiting, slots = deque(requests), Slots(model, choose, stops, pad)
    while waiting or slots.rows:
        if free := min(size - len(slots.rows), len(waiting)):
            yield from slots.admit([waiting.popleft() for _ in range(free)])
        else:
            yield from slots.step()

"""Prompts that are read into a cache. What all of them begin with, a system prompt or examples, is read once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from eval.decoding.caches import give_room

Forward = Callable[[Tensor, Tensor, Cache], Tensor]
"""New ids (B, T), mask (B, S) of all columns, cache of the S - T before → logits (B, V) of the last column."""

_WORTH_A_PASS = 8
"""Tokens; a shorter start in common is read with each prompt."""


class Prompts:
    """Reads prompts by a model's forward pass."""

    def __init__(self, config: Any, forward: Forward, prompts: Sequence[Sequence[int]], pad: int) -> None:
        self._config, self._forward, self._pad = config, forward, pad
        self._start = common_start(prompts)
        self._states: Any = DynamicCache(config=config)
        # A sliding window forgets the states that a shorter row needs.
        plain = all(type(layer) is DynamicLayer for layer in self._states.layers)
        if not plain or len(prompts) < 2 or len(self._start) < _WORTH_A_PASS:
            self._start = []

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Cache]:
        """Logits (N, V) of what follows each prompt, mask (N, S) with all padding on the left, and the cache (S).

        Every row begins with as much of the start as leaves the same number of tokens to be read, and shorter prompts
        with less of it: there is no padding within a row.
        """
        width = max(map(len, prompts))
        ids, mask = torch.full((len(prompts), width), self._pad), torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
        cache = give_room(DynamicCache(config=self._config))
        self._begin(cache, [width - len(prompt) for prompt in prompts])
        return self._forward(ids[:, len(self._start) :], mask, cache), mask, cache

    def _begin(self, cache: Any, padded: Sequence[int]) -> None:
        """Give each row, with so many columns of padding before it, the states of the start that all share."""
        if not self._start:
            return
        if not self._states.get_seq_length():
            ids = torch.tensor([self._start])
            self._forward(ids, torch.ones_like(ids), self._states)
        for layer, read in zip(cache.layers, self._states.layers, strict=True):
            layer.update(*(_shifted(states, padded) for states in (read.keys, read.values)))


def _shifted(states: Tensor, columns: Sequence[int]) -> Tensor:
    """(1, H, T, D) → (rows, H, T, D), each row moved to the right by its number of columns."""
    length = states.shape[2]
    moved = [F.pad(states, (0, 0, by, 0))[:, :, :length] for by in columns]
    return torch.cat(moved)


def common_start(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts begin with, without the last of any: what follows that one is wanted."""
    lists = [list(prompt) for prompt in prompts]
    first, last = min(lists), max(lists)
    most = min(map(len, lists)) - 1
    same = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: min(next(same, most), most)]

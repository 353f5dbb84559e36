"""Key-value caches of a batch whose rows come and go: rows end in the same column, and begin where they begin."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class RoomyLayer(DynamicLayer):
    """A layer that keeps room for columns to come: `DynamicLayer` copies all its states for every new token."""

    _COLUMNS_AHEAD = 64

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None
        self._filled: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the states (B, H, T, D) of new tokens behind the others; returns all."""
        if not self.get_seq_length():
            return super().update(key_states, value_states)
        assert self.keys is not None and self.values is not None
        before, after = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        # Rows that came or went have left the room that these views were of.
        if self._room is None or self._filled is not self.keys or after > self._room[0].shape[2]:
            ahead = (0, 0, 0, after - before + self._COLUMNS_AHEAD)
            self._room = F.pad(self.keys, ahead), F.pad(self.values, ahead)
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = states
        self.keys, self.values = (room[:, :, :after] for room in self._room)
        self._filled = self.keys
        return self.keys, self.values


def give_room(cache: Cache) -> Cache:
    """The same cache, before anything is in it, with room for new columns where a layer keeps all of them."""
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def can_join(cache: Any) -> bool:
    """Whether rows can be put in and taken out: plain layers, whose states are one column for each token."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def keep_rows(cache: Any, mask: Tensor, rows: list[int]) -> Tensor:
    """Take out all rows but these, and the columns that only padded the others; the mask (B, T) of what is left."""
    kept = mask[rows]
    columns = int(kept.any(0).sum())
    places = torch.tensor(rows, device=mask.device)
    for layer in cache.layers:
        _resize(layer, columns, places)
    return kept[:, -columns:]


def join(cache: Any, mask: Tensor, other: Any, other_mask: Tensor) -> Tensor:
    """Put the rows of `other` behind those of `cache`, padded on the left to one width; the mask (B + N, T) of all."""
    columns = max(mask.shape[1], other_mask.shape[1])
    for layer, fresh in zip(cache.layers, other.layers, strict=True):
        for each in (layer, fresh):
            _resize(each, columns)
        layer.keys = torch.cat((layer.keys, fresh.keys))
        layer.values = torch.cat((layer.values, fresh.values))
    return torch.cat([F.pad(each, (columns - each.shape[1], 0)) for each in (mask, other_mask)])


def _resize(layer: Any, columns: int, rows: Tensor | None = None) -> None:
    """Keep the states of the last `columns` tokens, of some rows; a sliding layer holds those of its window."""
    keys, values, held = layer.keys, layer.values, columns
    if isinstance(layer, DynamicSlidingWindowLayer):
        held, layer.cumulative_length = min(columns, layer.sliding_window - 1), columns
    layer.keys, layer.values = _right(keys, held, rows), _right(values, held, rows)


def _right(states: Tensor, columns: int, rows: Tensor | None) -> Tensor:
    """(B, H, T, D) → (rows, H, columns, D), cut or padded on the left."""
    states = states[:, :, max(0, states.shape[2] - columns) :]
    if rows is not None:
        states = states[rows]
    return F.pad(states, (0, 0, columns - states.shape[2], 0))

"""Log-likelihoods of token windows under any Hugging Face causal model: the one scoring path of every measure.

Shapes: B windows of a batch, T tokens of the longest one, S scored positions of the batch, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

_MAX_LOGITS, _MAX_LOGITS_ON_CPU = 2**28, 2**24
"""Logits of one forward pass, 1 GiB in float32: long windows go through in smaller batches. On a CPU, whose caches end
far below and which gains nothing from a larger batch of long windows, 64 MiB (567 instead of 415 tokens per second)."""


class Window(NamedTuple):
    """What the model reads, and the tokens that its last positions predict (never more than it reads)."""

    inputs: list[int]
    targets: list[int]


def window_nlls(model: Any, windows: Sequence[Window], batch_size: int) -> list[float]:
    """Negative log-likelihood in nats of each window's targets, in the order given.

    Windows of similar length share a batch; the longest come first, so that memory runs out at once or never.
    log_softmax in float32, sums in float64. NaN logits give NaN: the caller knows which row to name.
    """
    order = sorted(range(len(windows)), key=lambda index: -len(windows[index].inputs))
    nlls = [0.0] * len(windows)
    start = 0
    while start < len(order):
        size = _batch_size(model, windows[order[start]], batch_size)
        batch = order[start : start + size]
        for index, nll in zip(batch, _batch_nlls(model, [windows[index] for index in batch]), strict=True):
            nlls[index] = nll
        start += size
    return nlls


def most_positions(model: Any) -> int:
    """Scored positions of one forward pass, so that its logits stay within their limit."""
    most = _MAX_LOGITS_ON_CPU if model.device.type == "cpu" else _MAX_LOGITS
    return max(1, most // model.config.get_text_config().vocab_size)


def _batch_size(model: Any, longest: Window, batch_size: int) -> int:
    scored = len(longest.targets) if _selects_positions(model) else len(longest.inputs)
    return max(1, min(batch_size, most_positions(model) // max(1, scored)))


@torch.inference_mode()
def _batch_nlls(model: Any, windows: Sequence[Window]) -> list[float]:
    """Padded on the right without an attention mask: no causal position sees what follows it, so the padding cannot
    change a score, whatever the position embedding; position ids stay 0, 1, 2, ..."""
    length = max(len(window.inputs) for window in windows)
    ids_BT = torch.zeros((len(windows), length), dtype=torch.long)
    scored_BT = torch.zeros((len(windows), length), dtype=torch.bool)
    for row, (inputs, targets) in enumerate(windows):
        ids_BT[row, : len(inputs)] = torch.tensor(inputs)
        scored_BT[row, len(inputs) - len(targets) : len(inputs)] = True
    logits_SV = _scored_logits(model, ids_BT.to(model.device), scored_BT.to(model.device))
    nlls, start = [], 0
    for _, targets in windows:
        # One window at a time: its float32 copy is the largest array here.
        logits = logits_SV[start : start + len(targets)].float()
        losses = functional.cross_entropy(logits, torch.tensor(targets, device=logits.device), reduction="none")
        nlls.append(float(losses.double().sum()))
        start += len(targets)
    return nlls


def _scored_logits(model: Any, ids_BT: torch.Tensor, scored_BT: torch.Tensor) -> torch.Tensor:
    """Logits (S, V) at the scored positions, row by row.

    The model selects the positions before its own output head where it can (`logits_to_keep`), so that what it does
    there (soft-capping, scaling) stays its own; otherwise all logits are computed and then selected.
    """
    if not _selects_positions(model):
        return model(input_ids=ids_BT, use_cache=False).logits[scored_BT]
    return model(input_ids=ids_BT, use_cache=False, logits_to_keep=scored_BT).logits


def _selects_positions(model: Any) -> bool:
    """Whether `logits_to_keep` takes a boolean mask: true of the models inside transformers, unknown elsewhere."""
    inside = type(model).__module__.startswith("transformers.")
    return inside and "logits_to_keep" in inspect.signature(model.forward).parameters

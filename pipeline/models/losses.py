"""Losses in nats per token, averaged over what is labelled; -100 is not."""

import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def token_loss(logits: Tensor, labels: Tensor, items: Tensor | int | None = None) -> Tensor:
    """Cross-entropy of logits (B, T, V) against labels (B, T) of the same places.

    `items` is the number of labelled tokens of the whole optimiser step when gradients accumulate.
    """
    flat, wanted = logits.flatten(0, 1).float(), labels.flatten().to(logits.device)
    if items is None:
        return F.cross_entropy(flat, wanted, ignore_index=IGNORED)
    return F.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum") / items


def next_token_loss(logits: Tensor, labels: Tensor, items: Tensor | int | None = None, ahead: int = 1) -> Tensor:
    """Cross-entropy of logits (B, T, V) at t against the label at t + `ahead`; labels (B, T) come unshifted."""
    return token_loss(logits, F.pad(labels[:, ahead:], (0, ahead), value=IGNORED), items)


def task_loss(logits: Tensor, labels: Tensor, problem: str | None) -> Tensor:
    """Of logits (B, L): regression, one label or several, told by the labels' type and L unless said."""
    if problem is None:
        problem = "regression" if logits.shape[-1] == 1 else "single_label_classification"
        if problem != "regression" and labels.is_floating_point():
            problem = "multi_label_classification"
    if problem == "regression":
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype).view_as(logits.squeeze(-1)))
    if problem == "single_label_classification":
        return F.cross_entropy(logits, labels.view(-1))
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))

"""One trainer for causal, masked and denoising models: the loss is nats per labelled token of the whole step.

Not every model of transformers divides by the tokens of all accumulated batches (BERT and T5 take the mean of each),
so that accumulation would change their loss; those that do not get the loss from here.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import Trainer

IGNORED = -100


class LanguageModelTrainer(Trainer):
    """Transformers' Trainer; the experts' balance losses are averaged over the batches of a step, not summed."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """The loss of one batch as its part of the step's loss."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        balance = getattr(outputs, "router_loss", None)
        if balance is not None and num_items_in_batch is not None:
            ranks = self.accelerator.num_processes // self.get_tp_size()  # Trainer multiplied so, as DDP will average
            loss = loss + balance * (1 / self.current_gradient_accumulation_steps - ranks)
        return (loss, outputs) if return_outputs else loss


def loss_function(model: Any, shifted: bool) -> Callable[..., Tensor] | None:
    """None for a model that divides by `num_items_in_batch` itself: the causal ones, and those that name it."""
    forward = inspect.signature(getattr(model, "get_base_model", lambda: model)().forward).parameters
    takes_anything = any(parameter.kind == parameter.VAR_KEYWORD for parameter in forward.values())
    if "num_items_in_batch" in forward or (shifted and takes_anything):
        return None

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"]
        if shifted:
            logits, labels = logits[:, :-1], labels[:, 1:]
        return _summed(logits, labels) / (num_items_in_batch or (labels != IGNORED).sum())

    return loss


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    from torch.nn.functional import cross_entropy

    flat = logits.flatten(0, 1).float()
    return cross_entropy(flat, labels.flatten().to(flat.device), ignore_index=IGNORED, reduction="sum")

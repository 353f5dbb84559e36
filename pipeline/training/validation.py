"""The validation loss: nats per supervised token over all validation rows.

Trainer's `eval_loss` is a mean of batch means, so that it changes with the batch size and the number of ranks. This one
does not.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import StageFailed
from pipeline.training.parallel import groups, is_in_parts
from pipeline.training.step_log import VALIDATION, read_log

BEST = "best.safetensors"
"""Under `checkpoints/`: the trained weights at the lowest validation loss, when `early_stopping` is set."""


class Validation(TrainerCallback, ABC):
    """Measures every few steps, appends it to `validation.jsonl`, and ends a training that got no better.

    `patience`: so many measurements without a lower loss end the training; None never does.
    """

    def __init__(self, trainer: Any, rows: Any, every: int, folder: Path, patience: int | None = None):
        self._trainer, self._rows, self._every, self._folder = trainer, rows, every, folder
        self._patience = patience
        self._losses = [line["loss"] for line in read_log(folder / VALIDATION)]

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """What is written; `loss` is among it."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure, when it is time."""
        if state.global_step % self._every and state.global_step != state.max_steps:
            return
        found = self.figures()
        if state.is_world_process_zero:
            with (self._folder / VALIDATION).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **found}) + "\n")
        if self._patience is not None:
            control.should_training_stop |= self._got_worse(found["loss"], self._patience)

    def _got_worse(self, loss: float, patience: int) -> bool:
        """Keep the weights of a lower loss; whether it is time to stop."""
        if not self._losses or loss < min(self._losses):
            keep_best(self._trainer, self._folder / BEST)
        self._losses.append(loss)
        return len(self._losses) - 1 - self._losses.index(min(self._losses)) >= patience


class ValidationLoss(Validation):
    """The loss per supervised token; `shifted`: labels are the next tokens."""

    def __init__(
        self,
        trainer: Any,
        rows: Any,
        every: int,
        folder: Path,
        shifted: bool = True,
        patience: int | None = None,
    ):
        super().__init__(trainer, rows, every, folder, patience)
        self._first_label = 1 if shifted else 0

    def figures(self) -> dict[str, float]:
        """The loss alone."""
        return {"loss": self.measure()}

    def measure(self) -> float:
        """Sum of the token losses divided by their number, over all ranks."""
        import torch

        trainer: Any = self._trainer
        accelerator, model = trainer.accelerator, trainer.model
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)  # nats, tokens
        shared, size = groups(), trainer.args.per_device_eval_batch_size
        with torch.no_grad():
            for places, counts in shared.dealt(range(len(self._rows)), size, accelerator.process_index):
                inputs = trainer._prepare_inputs(trainer.data_collator([self._rows[place] for place in places]))
                tokens = (inputs["labels"][:, self._first_label :] != -100).sum() / shared.context
                divided, inputs = trainer._prepare_context_parallel_inputs(model, inputs)
                with divided():
                    # The count that divides the sum is 1; the trainer multiplies by the ranks, as DDP will average.
                    loss = trainer.compute_loss(model, inputs, num_items_in_batch=1) / (shared.ranks // shared.tensor)
                sums += torch.stack([loss.double(), tokens.double()]) * counts
        model.train()
        nats, tokens = accelerator.reduce(sums, reduction="sum").tolist()
        return nats / tokens


def keep_best(trainer: Any, file: Path) -> None:
    """Write the trained weights, whole or not at all. StageFailed where they lie in shards on the ranks."""
    from safetensors.torch import save_file

    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or is_in_parts(trainer):
        raise StageFailed("early_stopping: not with sharded weights; use launch=ddp, or remove early_stopping")
    if trainer.is_world_process_zero():
        unfinished = file.with_suffix(".tmp")
        save_file({name: weight.detach().clone() for name, weight in _trained(trainer)}, unfinished)
        unfinished.replace(file)


def return_to_best(trainer: Any, file: Path) -> None:
    """Put the weights of the lowest validation loss back."""
    import torch
    from safetensors.torch import load_file

    best = load_file(file)
    with torch.no_grad():
        for name, weight in _trained(trainer):
            weight.copy_(best[name])


def _trained(trainer: Any) -> list[tuple[str, Any]]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]

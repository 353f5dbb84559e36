"""A training tells its parent where each rank is and how long its own work takes; asked to stop, it ends at a
checkpoint."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline import heartbeat
from pipeline.preemption import STOP, StoppedAt

if TYPE_CHECKING:
    from accelerate import Accelerator

SAMPLE_EVERY = 25
"""Steps between two measurements of a rank's own work on a GPU, where measuring must wait for the device."""


class Supervised(TrainerCallback):
    """Must come after the callback that marks checkpoints: it ends the training behind the mark.

    A rank's own work is what it does before it waits for the others: fetching batches, and the forward passes. Between
    steps Trainer waits too (it counts the tokens of all ranks, and averages the loss), so that is not timed. In FSDP
    the forward passes wait as well, so that there all ranks look alike.
    """

    def __init__(self, trainer: Any, logs: Path):
        self._trainer, self._stop_file = trainer, logs / STOP
        self._accelerator: Accelerator = trainer.accelerator
        self._stopping = False
        self._own = 0.0
        self._handles: list[Any] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Watch the forward passes."""
        heartbeat.moved("between steps", state.global_step)
        self._state, model = state, more["model"]
        if not args.torch_compile:  # a compiled graph would break at a clock
            self._handles.append(model.register_forward_pre_hook(self._forward_begins))
            self._handles.append(model.register_forward_hook(self._forward_ends))
        get = self._trainer.get_batch_samples
        self._trainer.get_batch_samples = lambda batches, *told: get(self._fetched(batches), *told)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The batch is there."""
        heartbeat.moved("forward and backward", state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """All ranks have come this far: gradients are summed."""
        heartbeat.moved("update", state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell; and ask for a checkpoint when the parent wants the end. All ranks end at the same step."""
        heartbeat.moved("between steps", state.global_step)
        if self._measured():
            heartbeat.worked(self._own)
        self._own = 0.0
        at_end = state.global_step >= state.max_steps or control.should_training_stop
        if not at_end and rank_0_says(self._accelerator, state.is_world_process_zero and self._stop_file.exists()):
            control.should_save = self._stopping = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The checkpoint is whole: end here."""
        if self._stopping:
            self._accelerator.wait_for_everyone()
            raise StoppedAt(state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What follows is saving."""
        heartbeat.moved("end", state.global_step)
        for handle in self._handles:
            handle.remove()

    def _fetched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, with the time that each takes to be read and collated."""
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._own += time.perf_counter() - began
            yield batch

    def _measured(self) -> bool:
        return self._accelerator.device.type == "cpu" or self._state.global_step % SAMPLE_EVERY == 0

    def _clock(self) -> float:
        if self._accelerator.device.type != "cpu" and self._measured():
            import torch

            torch.accelerator.synchronize()
        return time.perf_counter()

    def _forward_begins(self, model: Any, _: Any) -> None:
        self._began = self._clock()

    def _forward_ends(self, model: Any, *_: Any) -> None:
        if model.training:  # a validation is every rank's own share
            self._own += self._clock() - self._began


def rank_0_says(accelerator: "Accelerator", said: bool) -> bool:
    """What rank 0 decides, on all ranks: they must not save or stop at different steps."""
    if accelerator.num_processes == 1:
        return said
    import torch
    from accelerate.utils import broadcast

    return bool(broadcast(torch.tensor(float(said), device=accelerator.device)))

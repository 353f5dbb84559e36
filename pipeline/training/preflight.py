"""Before the first step: the longest batch trained, validated and saved once, and everything put back as it was.

A batch that does not fit shows itself in the first minute and not in the last epoch. Memory is fullest in the second
step of a training, when the optimizer's states lie beside activations (and, with accumulation, gradients of earlier
batches): so both are made first, by a step on gradients of 0. All steps have a learning rate of 0, so that the weights
stay; states, gradients, buffers and random numbers are then set back.
"""

import copy
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import StageFailed
from pipeline.training.activation_memory import Batch
from pipeline.training.batches import names_of
from pipeline.training.config import TrainConfig
from pipeline.training.lengths import by_length
from pipeline.training.memory import training_memory
from pipeline.training.model_sizes import ModelFacts
from pipeline.training.parallel import groups, is_in_parts
from pipeline.training.peak_memory import PeakMemory


class Preflight(TrainerCallback):
    """Runs when the trainer has prepared model and optimizer; its figures are in `metrics` afterwards."""

    def __init__(self, trainer: Any, recipe: TrainConfig, folder: Path):
        self._trainer, self._recipe, self._folder = trainer, recipe, folder
        self.metrics: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """What it took; 0 where it did not run."""
        return self.metrics.get("preflight_seconds", 0.0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Only before the first step: a resumed run has been through it. DeepSpeed's engine cannot be set back."""
        if state.global_step or self._trainer.is_deepspeed_enabled:
            return
        started = time.perf_counter()
        rows, tokens = longest(self._trainer.train_dataset, args.per_device_train_batch_size)
        with _everything_put_back(self._trainer):
            with PeakMemory() as peak, _told_if_too_large(len(rows), tokens):
                loss = self._step(rows)
            self._look(rows)
            self._save()
        if loss != loss:  # nan
            raise StageFailed(
                "preflight: the loss of the longest batch is nan before any step; use model.dtype=float32, or look at "
                f"its rows: {', '.join(names_of(rows))}"
            )
        if (estimated := self._estimate(rows, tokens)) is not None:
            self.metrics["preflight_step_memory_estimated"] = estimated
        self.metrics["preflight_step_memory_measured"] = float(peak.bytes)
        self.metrics["preflight_tokens"] = float(tokens * len(rows))
        self.metrics["preflight_seconds"] = time.perf_counter() - started

    def _estimate(self, rows: list[dict[str, Any]], tokens: int) -> float | None:
        """What the step takes beside the weights, which were there before; None for an unknown family."""
        trainer, sizes = self._trainer, _facts(self._trainer)
        if sizes is None:
            return None
        batch = Batch(
            len(rows) * self._recipe.sequences_per_row,
            tokens / groups().context,
            masked=len(set(_lengths(rows))) > 1 or "lengths" in rows[0],
            accumulated=trainer.args.gradient_accumulation_steps > 1,
            on_gpu=torch.cuda.is_available(),
            tensor=groups().tensor,
        )
        step = training_memory(self._recipe, sizes, batch, *_launch(trainer))
        return step.total - step.weights

    def _step(self, rows: list[dict[str, Any]]) -> float:
        """Forward, backward, optimizer, as the second step of the training; at a learning rate of 0."""
        trainer = self._trainer
        model, optimizer = trainer.model_wrapped, trainer.optimizer
        inner = getattr(optimizer, "optimizer", optimizer)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.grad = torch.zeros_like(weight)
        _step_at_zero(inner)  # not through Accelerate, whose scaler has seen no loss yet
        if trainer.args.gradient_accumulation_steps == 1:
            model.zero_grad()
        model.train()
        trainer.current_gradient_accumulation_steps = 1  # the trainer sets it anew before each of its steps
        loss = trainer.training_step(model, trainer.data_collator(rows))
        _step_at_zero(optimizer)
        getattr(inner, "forget", inner.state.clear)()
        model.zero_grad()
        return float(loss)

    def _look(self, rows: list[dict[str, Any]]) -> None:
        """The same batch without gradients, as a validation reads it."""
        trainer = self._trainer
        model = trainer.model_wrapped
        model.eval()
        with torch.no_grad():
            inputs = trainer._prepare_inputs(trainer.data_collator(rows))
            divided, inputs = trainer._prepare_context_parallel_inputs(model, inputs)
            with divided():
                trainer.compute_loss(model, inputs)
        model.train()

    def _save(self) -> None:
        """The trained part, beside the checkpoints, and away again: a full disk is told now."""
        first = self._trainer.is_world_process_zero()
        if self._trainer.is_fsdp_enabled or not (first or is_in_parts(self._trainer)):
            return
        folder = Path(tempfile.mkdtemp(prefix=".preflight.", dir=self._folder))
        try:
            model = self._trainer.accelerator.unwrap_model(self._trainer.model)
            model.save_pretrained(folder, is_main_process=first)
        finally:
            shutil.rmtree(folder)


def _lengths(rows: list[dict[str, Any]]) -> list[int]:
    """Tokens of each sequence."""
    return [len(value) for row in rows for name, value in row.items() if name.endswith("input_ids")]


def _step_at_zero(optimizer: Any) -> None:
    """A step of the optimizer that moves no weight."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * 0
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


@contextmanager
def _told_if_too_large(sequences: int, tokens: int) -> Iterator[None]:
    """Out of memory, as a line that names the batch and what to lower."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StageFailed(
            f"preflight: {sequences} sequences of {tokens} tokens do not fit into memory; lower micro_batch_size or "
            "max_length, set activation_checkpointing=true, or choose launch=fsdp2 or adapter=qlora"
        ) from error


def longest(rows: Any, count: int) -> tuple[list[dict[str, Any]], int]:
    """The rows with most tokens in all their columns together, and the tokens of the longest."""
    order, lengths = by_length(rows)
    return [rows[int(place)] for place in order[:count]], int(lengths[order[0]])


@contextmanager
def _everything_put_back(trainer: Any) -> Iterator[None]:
    """Random numbers, buffers, and what the trainer counts are afterwards as before."""
    import numpy as np

    model = trainer.accelerator.unwrap_model(trainer.model)
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    counted = {name: copy.deepcopy(value) for name, value in vars(trainer).items() if _counts(name)}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    scaler = trainer.accelerator.scaler
    scale = scaler.state_dict() if scaler is not None else None
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
        vars(trainer).update(counted)
        if scaler is not None:
            scaler.load_state_dict(scale)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if gpu:
            torch.cuda.set_rng_state_all(gpu)


def _counts(name: str) -> bool:
    """TRL's trainers add up metrics and tokens as they go."""
    return name in (
        "_metrics",
        "_total_train_tokens",
        "_stored_metrics",
        "_step",
        "current_gradient_accumulation_steps",
    )


def _facts(trainer: Any) -> ModelFacts | None:
    """Sizes of the model in memory; None for a family that names them otherwise."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    inner = getattr(model, "get_base_model", lambda: model)()
    config = inner.config.get_text_config()
    frozen = [weight for name, weight in inner.named_parameters() if "lora_" not in name]
    try:
        return ModelFacts(
            sum(weight.numel() * (2 if weight.dtype == torch.uint8 else 1) for weight in frozen),
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.vocab_size,
            getattr(config, "num_key_value_heads", None),
            getattr(config, "head_dim", None),
            getattr(config, "intermediate_size", None),
            bool(getattr(config, "tie_word_embeddings", False)),
        )
    except AttributeError:
        return None


def _launch(trainer: Any) -> tuple[str, int]:
    accelerator = trainer.accelerator
    hybrid = getattr(accelerator, "parallelism_config", None)
    shards = accelerator.num_processes // groups().replicas
    if hybrid is not None and hybrid.dp_replicate_size > 1:
        shards = hybrid.dp_shard_size * hybrid.cp_size
    return ("fsdp2" if trainer.is_fsdp_enabled else "single"), shards

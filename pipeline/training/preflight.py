"""Before the first step: the longest batch trained, validated and saved once, and everything put back as it was.

A batch that does not fit shows itself in the first minute and not in the last epoch. The optimizer makes its step with
a learning rate of 0, so that its states are really allocated and the weights stay; states, gradients, buffers and
random numbers are then set back.
"""

import copy
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import StageFailed
from pipeline.training.config import TrainConfig
from pipeline.training.memory import ModelFacts, training_memory


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
                f"its rows: {', '.join(_names(rows))}"
            )
        sizes = _facts(self._trainer)
        if sizes is not None:
            step = training_memory(self._recipe, sizes, len(rows), tokens, *_launch(self._trainer))
            held = step.weights  # before the step, the weights were there already
            self.metrics["preflight_step_memory_estimated"] = step.total - held
        self.metrics["preflight_step_memory_measured"] = float(peak.bytes)
        self.metrics["preflight_tokens"] = float(tokens * len(rows))
        self.metrics["preflight_seconds"] = time.perf_counter() - started

    def _step(self, rows: list[dict[str, Any]]) -> float:
        """Forward, backward, optimizer, as a step of the training; at a learning rate of 0."""
        trainer = self._trainer
        model, optimizer = trainer.model_wrapped, trainer.optimizer
        model.train()
        trainer.current_gradient_accumulation_steps = 1  # the trainer sets it anew before each of its steps
        loss = trainer.training_step(model, trainer.data_collator(rows))
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 0
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        inner = getattr(optimizer, "optimizer", optimizer)
        getattr(inner, "forget", inner.state.clear)()
        model.zero_grad()
        return float(loss)

    def _look(self, rows: list[dict[str, Any]]) -> None:
        """The same batch without gradients, as a validation reads it."""
        trainer = self._trainer
        model = trainer.model_wrapped
        model.eval()
        with torch.no_grad():
            trainer.compute_loss(model, trainer._prepare_inputs(trainer.data_collator(rows)))
        model.train()

    def _save(self) -> None:
        """The trained part, beside the checkpoints, and away again: a full disk is told now."""
        if not self._trainer.is_world_process_zero() or self._trainer.is_fsdp_enabled:
            return
        folder = Path(tempfile.mkdtemp(prefix=".preflight.", dir=self._folder))
        try:
            self._trainer.accelerator.unwrap_model(self._trainer.model).save_pretrained(folder)
        finally:
            shutil.rmtree(folder)


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """The ids of rows, where they are known; of packed ones those of their documents."""
    return [name for row in rows for name in ([row["id"]] if "id" in row else row.get("documents", []))]


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
    import pyarrow.compute as pc

    table = getattr(rows, "data", None)
    if table is None:  # rows that are put together when they are asked for
        lengths = [max(len(value) for value in rows[at].values() if isinstance(value, list)) for at in range(len(rows))]
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])[:count]
        return [rows[index] for index in order], lengths[order[0]]
    lists = [
        name for name in rows.column_names if str(table.schema.field(name).type).startswith(("list", "large_list"))
    ]
    if rows._indices is not None or not lists:
        lengths = [max(len(row[name]) for name in lists) if lists else 0 for row in rows]
    else:
        columns = [pc.list_value_length(table[name]).to_pylist() for name in lists]  # pyright: ignore
        lengths = [max(each) for each in zip(*columns, strict=True)]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])[:count]
    return [rows[index] for index in order], lengths[order[0]]


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


class PeakMemory:
    """The most memory taken while it is open, above what was taken before: on the GPU, else in this process.

    Resident memory is sampled: the kernel's own record would have to be reset, and the worker reports that one.
    """

    bytes = 0

    def __enter__(self) -> "PeakMemory":
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            return self
        self._process, self._ended = psutil.Process(), threading.Event()
        self._before = self._process.memory_info().rss
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(0.002):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated() - self._before
            return
        self._ended.set()
        self._sampler.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)


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
        )
    except AttributeError:
        return None


def _launch(trainer: Any) -> tuple[str, int]:
    accelerator = trainer.accelerator
    hybrid = getattr(accelerator, "parallelism_config", None)
    shards = hybrid.dp_shard_size if hybrid is not None and hybrid.dp_replicate_size > 1 else accelerator.num_processes
    return ("fsdp2" if trainer.is_fsdp_enabled else "single"), shards

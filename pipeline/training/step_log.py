"""The per-step log: one JSON line per optimizer step, cut back to the checkpoint on a resume.

Trainer's own mean loss covers only the steps since the resume; this log covers them all.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data_prep.progress import Track
from pipeline.artifacts import write_text

STEPS, VALIDATION = "steps.jsonl", "validation.jsonl"
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
KEPT = ("loss", "learning_rate", "grad_norm", *REWARDS)


def read_log(file: Path) -> list[dict[str, float]]:
    """The lines of a log; a torn last line is left out."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def cut_back(file: Path, step: int) -> None:
    """Keep only what was logged up to `step`, so that a resumed log equals an undisturbed one."""
    kept = [line for line in read_log(file) if line["step"] <= step]
    write_text(file, "".join(json.dumps(line) + "\n" for line in kept))


class StepLog(TrainerCallback):
    """Writes loss, learning rate and gradient norm of each step and shows progress."""

    def __init__(self, folder: Path, first_step: int, max_steps: int, track: Track):
        self._folder, self._first_step, self._max_steps = folder, first_step, max_steps
        self._track = track
        self._bar: Iterator[int] = iter(())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The bar starts where the checkpoint ended."""
        if state.is_world_process_zero:
            self._bar = self._track(range(self._max_steps), "steps", total=self._max_steps)
            for _step in range(self._first_step):
                next(self._bar)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One more step."""
        next(self._bar, None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append a line; rank 0 writes."""
        logs = logs or {}
        if "loss" in logs and state.is_world_process_zero:
            values = {name: logs[name] for name in KEPT if name in logs}
            with (self._folder / STEPS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **values}) + "\n")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let the bar end."""
        for _step in self._bar:
            continue

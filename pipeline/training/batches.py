"""How rows reach a trainer: named, so that a step without a number can say which rows it saw."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import StageFailed

NAMES = ("id", "documents")
"""The columns that name a row, or what it is packed of; rows of validation have none, as they are no part of a step."""
_SHOWN = 12


class Batches(TrainerCallback):
    """Collates rows and remembers their names until their step is over; stops at a loss or gradient of nan or inf.

    Each rank names its own rows. The stop comes before the step's checkpoint is written, so that the last one is good.
    """

    def __init__(self, trainer: Any) -> None:
        self._collate: Any = trainer.data_collator
        self._read: deque[list[str]] = deque()  # names of the rows of each batch that no step has used yet
        self._step: list[str] = []
        self._done = True
        trainer.data_collator = self
        trainer.args.remove_unused_columns = False

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch, without the names of its rows."""
        if names := names_of(rows):
            self._read.append(names)
        return self._collate([{key: value for key, value in row.items() if key not in NAMES} for row in rows])

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What was read before, by the preflight, is no step's."""
        self._read.clear()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One more batch of the step."""
        self._used()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last batch of the step."""
        self._used()
        self._done = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Refuse what is no number."""
        for name, what in (("loss", "loss"), ("grad_norm", "gradient norm")):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise StageFailed(
                    f"the {what} of step {state.global_step} is {value}; lower learning_rate, raise warmup_steps or "
                    f"use model.dtype=float32; its rows were {self._shown()} (the last checkpoint before it is kept)"
                )

    def _used(self) -> None:
        if self._done:
            self._step, self._done = [], False
        if self._read:
            self._step += self._read.popleft()

    def _shown(self) -> str:
        more = len(self._step) - _SHOWN
        return ", ".join(self._step[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def names_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The ids of rows, where they are known; of packed ones those of their documents."""
    return [name for row in rows for name in ([row["id"]] if "id" in row else row.get("documents", []))]

"""How rows reach a trainer of TRL: named, so that a step without a number can say which rows it saw; packed where they
share rows.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import StageFailed
from pipeline.training.packed import leak, packed_batch

if TYPE_CHECKING:
    from pipeline.training.loop import Rows

AnyTrainer = TypeVar("AnyTrainer", bound=Any)
NAMES = ("id", "documents")
_SHOWN = 12


class Batches(TrainerCallback):
    """Collates rows and remembers their names until their step is over; stops at a loss or gradient of nan or inf.

    Each rank names its own rows. The stop comes before the step's checkpoint is written, so that the last one is good.
    """

    def __init__(self) -> None:
        self._collate: Any = None
        self._read: deque[list[str]] = deque()  # names of the rows of each batch that no step has used yet
        self._step: list[str] = []
        self._done = True

    def rows(self, rows: "Rows") -> "Rows":
        """The same rows, those of validation without names: they are no part of a step."""
        if rows.validation is None:
            return rows
        unnamed: Any = rows.validation
        return replace(
            rows, validation=unnamed.remove_columns([name for name in NAMES if name in unnamed.column_names])
        )

    def seat(self, trainer: AnyTrainer) -> AnyTrainer:
        """Make the trainer collate through here. StageFailed when its model lets packed rows see each other."""
        rows, tokenizer = trainer.train_dataset, trainer.processing_class
        self._collate = trainer.data_collator
        if "lengths" in rows.column_names:
            _refuse_leak(trainer.model, rows)
            pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            self._collate = lambda batch: packed_batch(batch, int(pad))
        trainer.data_collator = self
        trainer.args.remove_unused_columns = False
        return trainer

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch, without the names of its rows."""
        names = [name for row in rows for name in _names(row)]
        if names:
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


def _names(row: dict[str, Any]) -> list[str]:
    return [row["id"]] if "id" in row else list(row.get("documents", []))


def _refuse_leak(model: Any, rows: Any) -> None:
    """Rounding is allowed: in 16 bits it is some hundredths of a logit, and a leak is tenths or more."""
    import torch

    allowed = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.2
    if (difference := leak(model, rows)) > allowed:
        raise StageFailed(
            f"packed conversations see each other in this model (its logits differ by {difference:.2g}); "
            "set packing=none"
        )

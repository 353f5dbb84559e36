"""Ends the training of a trial that is worse than the median of the others in its search."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.errors import Pruned
from pipeline.pruning import Rule
from pipeline.training.step_log import VALIDATION, read_log
from pipeline.training.supervision import rank_0_says

if TYPE_CHECKING:
    from accelerate import Accelerator


class PruneByMedian(TrainerCallback):
    """Must come after the validation: it hands each new loss to the shared table, then asks the rule."""

    def __init__(self, accelerator: "Accelerator", rule: Rule, stage: str, every: int, checkpoints: Path):
        self._accelerator, self._rule, self._stage, self._every = accelerator, rule, stage, every
        self._log = checkpoints / VALIDATION

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Rank 0 decides for all. Pruned at the last step would save nothing."""
        if state.global_step % self._every or state.global_step >= state.max_steps:
            return
        worse = state.is_world_process_zero and self._worse(state.global_step)
        if rank_0_says(self._accelerator, worse):
            raise Pruned(f"pruned at step {state.global_step}: above the median validation loss of the other trials")

    def _worse(self, step: int) -> bool:
        newest = read_log(self._log)[-1]
        file = self._rule.file(self._stage)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as table:
            table.write(json.dumps({"step": step, "loss": newest["loss"]}) + "\n")
        return self._rule.worse(self._stage, step) is not None

"""The median rule over a table that the trials of a search share: validation losses by step, one file per training.

    outputs/sweeps/<id>/validation/<stage>-<trial>.jsonl   {"step": 5, "loss": 1.2}

As Optuna's MedianPruner decides (its oracle in the tests); Optuna's own needs its storage in every training process.
"""

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

TABLE = "PROVETUNE_PRUNING"
"""Environment variable: the `Rule` of this trial as JSON, for its training processes."""


@dataclass(frozen=True)
class Rule:
    """Where the table is, whose losses these are, and when a trial may be pruned."""

    folder: str
    trial: int
    after: int
    """Other trials that must have come to the step."""
    start: int
    """Step before which nobody is pruned."""

    def file(self, stage: str) -> Path:
        """This trial's losses in a stage."""
        return Path(self.folder) / f"{stage.replace('/', '.')}-{self.trial}.jsonl"

    def worse(self, stage: str, step: int) -> float | None:
        """The median of the others at a step, where this trial's best loss so far is above it; else None."""
        own, every = self.file(stage), Path(self.folder).glob(f"{stage.replace('/', '.')}-*.jsonl")
        mine = min((loss for at, loss in read_losses(own).items() if at <= step), default=None)
        there = [losses[step] for losses in (read_losses(file) for file in every if file != own) if step in losses]
        if mine is None or step < self.start or len(there) < self.after:
            return None
        median = statistics.median(there)
        return median if mine > median else None


def rule_of_this_process() -> Rule | None:
    """The rule that the search has set for the trial that runs here."""
    text = os.environ.get(TABLE)
    return Rule(**json.loads(text)) if text else None


def read_losses(file: Path) -> dict[int, float]:
    """Step → loss; after a resume the newer line of a step counts. A torn last line is left out."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError:
        return {}
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}

"""Loss, rewards and preference accuracy over the validation rows: means per row, however rows meet in batches.

Losses that look at several rows at once (aot, sft, kto) are means of batch means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.training.parallel import groups
from pipeline.training.step_log import REWARDS
from pipeline.training.validation import Validation

WATCHED = ("loss", *REWARDS)
"""What is written, where the trainer measures it."""


class PreferenceValidation(Validation):
    """The means of everything that is watched."""

    def figures(self) -> dict[str, float]:
        """What was measured."""
        return self.measure()

    def measure(self) -> dict[str, float]:
        """Means over all rows and ranks."""
        trainer = self._trainer
        accelerator = trainer.accelerator
        size = trainer.args.per_device_eval_batch_size
        dealt = groups().dealt(range(len(self._rows)), size, accelerator.process_index)
        sums = torch.zeros((len(WATCHED), 2), dtype=torch.float64)
        trainer.model.eval()
        with torch.no_grad(), _each_rank_alone(accelerator):
            for places, counts in dealt:
                found = trainer.measured([self._rows[place] for place in places])
                for place, name in enumerate(WATCHED):
                    mean, rows = found.get(name, (0.0, 0))
                    sums[place] += torch.tensor([mean * rows, rows]) * counts
        trainer.model.train()
        total = accelerator.reduce(sums.to(accelerator.device), reduction="sum").cpu()
        means = {name: float(value / rows) for name, (value, rows) in zip(WATCHED, total, strict=True) if rows > 0}
        if {"rewards/chosen", "rewards/rejected"} <= set(means):
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
        return means


@contextmanager
def _each_rank_alone(accelerator: Any) -> Iterator[None]:
    """TRL gathers its metrics over the ranks at each batch, but ranks may hold different numbers of batches."""
    accelerator.gather = accelerator.gather_for_metrics = lambda value: value
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics

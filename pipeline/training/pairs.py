"""Prepared pairs in the hands of TRL's DPOTrainer, which has no switch that leaves rows as they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import DPOTrainer
from trl.trainer import dpo_trainer

from data_prep.tokens.masks import IGNORED
from data_prep.tokens.preference import SIDES

LOGPS = ("ref_chosen_logps", "ref_rejected_logps")
"""The columns of the reference's log-probabilities, by the names that TRL reads."""
COLUMNS = [f"{side}_{part}" for side in SIDES for part in ("input_ids", "labels")]

Batch = dict[str, Tensor]
Rows = Sequence[dict[str, Any]]
Measured = dict[str, tuple[float, int]]
"""Name → mean, and over how many rows."""


class PairDpoTrainer(DPOTrainer):
    """TRL's trainer on rows that are tokens and have their reference's log-probabilities beside them."""

    def __init__(self, **settings: Any):
        with unhashed(dpo_trainer):
            super().__init__(**settings)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [*COLUMNS, *LOGPS]

    def reference_of(self, rows: Rows) -> list[Tensor]:
        """Log-probabilities (rows,) of the chosen and the rejected answers under the policy as it stands."""
        inputs: Any = self._prepare_inputs(self.data_collator(list(rows)))
        return list(self.compute_ref_log_probs(self.model, inputs))

    def measured(self, rows: Rows) -> Measured:
        """Loss, rewards and accuracy of rows, on this rank alone. The model is in evaluation mode."""
        inputs: Any = self._prepare_inputs(self.data_collator(list(rows)))
        with self.compute_loss_context_manager():
            loss = float(self.compute_loss(cast(Any, self.model), inputs))
        told = {name: values[-1] for name, values in self._metrics["eval"].items()} | {"loss": loss}
        self._metrics["eval"].clear()
        return {name: (value, len(rows)) for name, value in told.items()}


@contextmanager
def unhashed(module: Any) -> Iterator[None]:
    """Keep a module of TRL's from hashing all weights, which names a cache that is not used here.

    It takes as long as reading them, and fails on weights that lie in parts on the ranks.
    """
    hashing, module.hash_module = module.hash_module, lambda _: ""
    try:
        yield
    finally:
        module.hash_module = hashing


def pair_batches(tokenizer: Any) -> Callable[[Rows], Batch]:
    """From pairs to TRL's batch: all chosen sequences, then all rejected ones, padded on the right."""
    pad = pad_token(tokenizer)

    def collate(rows: Rows) -> Batch:
        ids = [torch.tensor(row[f"{side}_input_ids"]) for side in SIDES for row in rows]
        labels = [torch.tensor(row[f"{side}_labels"]) for side in SIDES for row in rows]
        batch = {
            "input_ids": padded(ids, pad),
            "attention_mask": padded([torch.ones_like(each) for each in ids], 0),
            "completion_mask": (padded(labels, IGNORED) != IGNORED).long(),
        }
        known = [name for name in LOGPS if name in rows[0]]
        return batch | {name: torch.tensor([row[name] for row in rows]) for name in known}

    return collate


def pad_token(tokenizer: Any) -> int:
    """The id that fills a batch up; it is masked, so that any will do."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def padded(rows: Sequence[Tensor], value: int) -> Tensor:
    """Rows of tokens as one tensor (rows, longest), filled up on the right."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value)

"""Prepared answers, each good or bad, in the hands of TRL's KTOTrainer."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from trl import KTOTrainer
from trl.trainer import kto_trainer

from data_prep.tokens.masks import IGNORED
from pipeline.training.pairs import Measured, pad_token, padded, unhashed

LOGPS = ("ref_logps", "ref_KL_logps")
"""The columns of the reference's log-probabilities, by the names that TRL reads."""


class NeighbourRows(Sequence[dict[str, Any]]):
    """Answers in an order drawn by a seed, each with its neighbour's answer under its own prompt.

    TRL pairs each answer of a batch with the one before it (the first with the last); so do we, over the global batch,
    so that the number of devices does not change who meets whom.
    """

    def __init__(
        self,
        rows: Any,
        reference: Any,
        neighbours: bool,
        batch_size: int,
        seed: int,
        max_length: int,
        most: int | None = None,
    ):
        """`reference`: log-probabilities by place in this order; `most`: only the first so many answers."""
        self.rows, self.reference, self.neighbours = rows, reference, neighbours
        self._batch_size, self._max_length = batch_size, max_length
        self._order = np.random.default_rng(seed).permutation(len(rows))
        self._most = len(rows) if most is None else most

    def __len__(self) -> int:
        return self._most

    def __getitem__(self, place: Any) -> Any:
        row = self.rows[int(self._order[place])]
        found = {name: row[name] for name in ("id", "input_ids", "labels", "label") if name in row}
        if self.neighbours:
            other = self.rows[int(self._order[self._before(place)])]
            prompt, answer = row["input_ids"][: _start(row)], other["input_ids"][_start(other) :]
            found["KL_input_ids"] = (prompt + answer)[: self._max_length]
            found["KL_labels"] = ([IGNORED] * len(prompt) + other["labels"][_start(other) :])[: self._max_length]
        return found if self.reference is None else found | self.reference[place]

    def _before(self, place: int) -> int:
        """The place before it in its batch; the last place of the batch for the first."""
        start = place - place % self._batch_size
        size = min(self._batch_size, len(self.rows) - start)
        return start + (place - start - 1) % size


def _start(row: dict[str, Any]) -> int:
    """Where the answer begins."""
    return next(place for place, label in enumerate(row["labels"]) if label != IGNORED)


def reference_columns(rows: NeighbourRows) -> tuple[str, ...]:
    """The log-probabilities that an objective needs."""
    return LOGPS if rows.neighbours else LOGPS[:1]


class AnswerTrainer(KTOTrainer):
    """TRL's trainer on rows that are tokens and have their reference's log-probabilities beside them."""

    def __init__(self, **settings: Any):
        with unhashed(kto_trainer):
            super().__init__(**settings)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def reference_of(self, rows: Sequence[dict[str, Any]]) -> list[Tensor]:
        """Log-probabilities (rows,) of the answers, and of their neighbours', under the policy as it stands."""
        inputs: Any = self._prepare_inputs(self.data_collator(list(rows)))
        own, neighbours = self.compute_ref_log_probs(self.model, inputs)
        return [own] if neighbours is None else [own, neighbours]

    def measured(self, rows: Sequence[dict[str, Any]]) -> Measured:
        """Loss over the answers, rewards over the good and the bad ones, on this rank alone."""
        inputs: Any = self._prepare_inputs(self.data_collator(list(rows)))
        with self.compute_loss_context_manager():
            loss = float(self.compute_loss(cast(Any, self.model), inputs))
        told = {name: values[-1] for name, values in self._metrics["eval"].items()}
        self._metrics["eval"].clear()
        good = sum(row["label"] for row in rows)
        counted = {"rewards/chosen": good, "rewards/rejected": len(rows) - good}
        rewards = {name: (told[name], count) for name, count in counted.items() if name in told}
        return {"loss": (loss, len(rows)), **rewards}


def answer_batches(tokenizer: Any) -> Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]]:
    """From answers to TRL's batch, padded on the right."""
    pad = pad_token(tokenizer)

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {"label": torch.tensor([row["label"] for row in rows])}
        for prefix in ("", "KL_") if "KL_input_ids" in rows[0] else ("",):
            ids = [torch.tensor(row[f"{prefix}input_ids"]) for row in rows]
            labels = [torch.tensor(row[f"{prefix}labels"]) for row in rows]
            batch[f"{prefix}input_ids"] = padded(ids, pad)
            batch[f"{prefix}attention_mask"] = padded([torch.ones_like(each) for each in ids], 0)
            batch[f"{prefix}completion_mask"] = (padded(labels, IGNORED) != IGNORED).long()
        known = [name for name in LOGPS if name in rows[0]]
        return batch | {name: torch.tensor([row[name] for row in rows]) for name in known}

    return collate

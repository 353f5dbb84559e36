"""Prepared pairs in the hands of TRL's experimental trainers without a reference (ORPO, CPO with SimPO's loss)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from data_prep.tokens.masks import IGNORED
from data_prep.tokens.preference import SIDES
from pipeline.training.pairs import Measured, pad_token, padded
from pipeline.training.preference_config import PreferenceTrainConfig

if TYPE_CHECKING:
    from datasets import Dataset

PLACEHOLDER = {"prompt": "a", "chosen": "b", "rejected": "c"}
"""The row that TRL's constructor may tokenise; ours take its place."""


class _OnTokens:
    """Leaves rows as they are, and measures a batch on this rank alone."""

    def tokenize_row(self, feature: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing to do."""
        return {}

    def measured(self: Any, rows: Sequence[dict[str, Any]]) -> Measured:
        """Loss, rewards and accuracy of rows. The model is in evaluation mode."""
        inputs: Any = self._prepare_inputs(self.data_collator(list(rows)))
        with self.compute_loss_context_manager():
            loss, metrics = self.get_batch_loss_metrics(self.model, inputs, train_eval="eval")
        told = {name.removeprefix("eval_"): value for name, value in metrics.items()} | {"loss": float(loss)}
        return {name: (value, len(rows)) for name, value in told.items()}


class PairOrpoTrainer(_OnTokens, ORPOTrainer):
    """TRL's ORPO trainer on rows that are tokens."""


class PairCpoTrainer(_OnTokens, CPOTrainer):
    """TRL's CPO trainer on rows that are tokens."""


def reference_free_trainer(
    trainer_class: type[Any],
    arguments: Any,
    recipe: PreferenceTrainConfig,
    inputs: Mapping[str, Path],
    rows: "Dataset",
) -> Any:
    """The trainer over our pairs: its constructor tokenises a placeholder, and then gets them."""
    from datasets import Dataset

    from pipeline.training.preference import starting_policy

    tokenizer, model, peft = starting_policy(recipe, inputs)
    arguments.padding_value = pad_token(tokenizer)
    trainer = trainer_class(
        model=model,
        args=arguments,
        data_collator=two_sided_batches(tokenizer),
        train_dataset=Dataset.from_list([PLACEHOLDER]),
        processing_class=tokenizer,
        peft_config=peft,
    )
    trainer.train_dataset = rows
    return trainer


def two_sided_batches(tokenizer: Any) -> Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]]:
    """From pairs to the batch of TRL's older trainers: ids, mask and labels of each side, padded on the right."""
    pad = pad_token(tokenizer)

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {}
        for side in SIDES:
            ids = [torch.tensor(row[f"{side}_input_ids"]) for row in rows]
            batch[f"{side}_input_ids"] = padded(ids, pad)
            batch[f"{side}_attention_mask"] = padded([torch.ones_like(each) for each in ids], 0)
            batch[f"{side}_labels"] = padded([torch.tensor(row[f"{side}_labels"]) for row in rows], IGNORED)
        return batch

    return collate

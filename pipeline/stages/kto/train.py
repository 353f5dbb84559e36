"""Kahneman–Tversky optimization through TRL's KTOTrainer, on answers that are tokens already."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.progress import Track
from pipeline.stages.kto.config import KtoTrainConfig

if TYPE_CHECKING:
    from pipeline.training.answers import NeighbourRows


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train, and leave `adapter/` or `model/`, see `pipeline.training.loop`.

    Raises StageFailed when the loss is no number, DataError when there are fewer answers than a batch holds.
    """
    from pipeline.training.preference import load_judged, train_preference

    recipe = KtoTrainConfig.model_validate(config)
    known = {label: path for label, path in inputs.items() if label != "reference"}
    rows = load_judged(known, recipe)
    answers: Any = ordered_rows(recipe, inputs, "train")
    validation: Any = rows.validation and ordered_rows(recipe, inputs, "validation", most=len(rows.validation))

    def make_trainer(steps: int, checkpoints: Path) -> Any:
        return kto_trainer(recipe, inputs, answers, steps, checkpoints, adapter=True)

    return train_preference(
        recipe, replace(rows, train=answers, validation=validation), inputs, out, track, make_trainer
    )


def ordered_rows(
    recipe: KtoTrainConfig, inputs: Mapping[str, Path], split: str, most: int | None = None
) -> "NeighbourRows":
    """The answers of a split in the order of the training, with their reference where it is known already."""
    from datasets import load_from_disk

    from pipeline.training.answers import NeighbourRows

    rows: Any = load_from_disk(str(inputs["rows"] / split))
    if split != "train" and "id" in rows.column_names:
        rows = rows.remove_columns("id")  # only rows of a step have names
    audit = json.loads((inputs["rows"] / "audit.json").read_text(encoding="utf-8"))
    return NeighbourRows(
        rows=rows,
        reference=load_from_disk(str(inputs["reference"] / split)) if "reference" in inputs else None,
        neighbours=recipe.loss == "kto",
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        max_length=audit["config"]["max_length"],
        most=most,
    )


def kto_trainer(
    recipe: KtoTrainConfig,
    inputs: Mapping[str, Path],
    rows: "NeighbourRows",
    steps: int,
    checkpoints: Path,
    adapter: bool,
) -> Any:
    """TRL's trainer over our answers; without the adapter that it would train, what it scores by is the reference."""
    from trl import KTOConfig

    from pipeline.training.answers import AnswerTrainer, answer_batches
    from pipeline.training.preference import preference_arguments, starting_policy

    tokenizer, model, peft = starting_policy(recipe, inputs, adapter)
    trainer: Any = AnswerTrainer(
        model=model,
        args=KTOConfig(
            **preference_arguments(recipe, steps, checkpoints),
            loss_type=recipe.loss,
            beta=recipe.beta,
            desirable_weight=recipe.desirable_weight,
            undesirable_weight=recipe.undesirable_weight,
            precompute_ref_log_probs=True,
            train_sampling_strategy="sequential",
            max_length=None,
        ),
        data_collator=answer_batches(tokenizer),
        train_dataset=rows.rows,
        processing_class=tokenizer,
        peft_config=peft,
    )
    trainer.train_dataset = rows
    return trainer

"""Supervised fine-tuning through TRL's SFTTrainer, on rows that are tokenised and masked already."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.progress import Track
from pipeline.stages.sft.config import SftTrainConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTTrainer


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train, and leave `adapter/` or `model/`, see `pipeline.training.loop`.

    Raises StageFailed when the loss is no number, DataError when there is nothing to train on.
    """
    from pipeline.training.loop import load_rows, sized, train_to_end

    recipe = SftTrainConfig.model_validate(config)
    rows = load_rows(inputs["rows"], recipe)
    recipe = sized(recipe, rows)

    def make_trainer(steps: int, checkpoints: Path) -> "SFTTrainer":
        return _trainer(recipe, inputs, rows.train, steps, checkpoints)

    return train_to_end(recipe, rows, inputs, out, track, make_trainer)


def _trainer(
    recipe: SftTrainConfig,
    inputs: Mapping[str, Path],
    rows: "Dataset",
    steps: int,
    checkpoints: Path,
) -> "SFTTrainer":
    """TRL's trainer over our rows: it neither tokenises nor truncates nor masks."""
    from trl import SFTConfig, SFTTrainer

    from pipeline.training.adapters import adapter_config
    from pipeline.training.arguments import refuse_lonely_ranks, training_arguments
    from pipeline.training.models import load_start, load_tokenizer
    from pipeline.training.packed import collator, refuse_leak
    from pipeline.training.parallel import parts_of_a_row

    tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
    model = load_start(recipe, inputs)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **training_arguments(recipe, steps, checkpoints),
            max_length=None,
            pad_to_multiple_of=parts_of_a_row(),
            neftune_noise_alpha=recipe.neftune_alpha,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter_config(recipe, model, inputs["weights"]),
    )
    refuse_lonely_ranks(trainer.accelerator)
    if "lengths" in rows.column_names:
        refuse_leak(trainer.model, rows, "conversations")
        trainer.data_collator = collator("causal", True, tokenizer, trainer.model)
    return trainer

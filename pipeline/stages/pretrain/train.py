"""Pretraining through transformers' own Trainer: TRL has no path for masked and denoising models."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.progress import Track
from pipeline.stages.pretrain.config import PretrainTrainConfig

if TYPE_CHECKING:
    from transformers import Trainer

    from pipeline.training.loop import Rows


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train, and leave `model/` or `adapter/`, see `pipeline.training.loop`; from-scratch decoders tell their costs.

    Raises StageFailed when the loss is no number, or when the model would let packed documents see each other.
    """
    from pipeline.training.decode_speed import decoding_costs
    from pipeline.training.loop import load_rows, sized, train_to_end
    from pipeline.training.models import is_own_model, load_tokenizer, load_weights
    from pipeline.training.routing import BalanceExperts, save_routing

    recipe = PretrainTrainConfig.model_validate(config)
    rows = load_rows(inputs["rows"], recipe)
    recipe = sized(recipe, rows)

    def make_trainer(steps: int, checkpoints: Path) -> "Trainer":
        return _trainer(recipe, inputs, rows, steps, checkpoints)

    shifted = recipe.objective == "causal"
    metrics = train_to_end(recipe, rows, inputs, out, track, make_trainer, shifted, [BalanceExperts()])
    if os.environ.get("RANK", "0") == "0" and is_own_model(inputs["weights"]) and (out / "model").exists():
        model: Any = load_weights(out / "model", recipe.dtype, recipe.attention, recipe.trust_remote_code)
        metrics |= decoding_costs(model, recipe.dtype)
        tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
        save_routing(model, tokenizer, rows.train if rows.validation is None else rows.validation, out)
    return metrics


def _trainer(
    recipe: PretrainTrainConfig, inputs: Mapping[str, Path], rows: "Rows", steps: int, checkpoints: Path
) -> "Trainer":
    from transformers import TrainingArguments

    from pipeline.training.adapters import with_adapter
    from pipeline.training.arguments import refuse_lonely_ranks, training_arguments
    from pipeline.training.language_model import LanguageModelTrainer, loss_function
    from pipeline.training.models import load_start, load_tokenizer
    from pipeline.training.packed import collator, refuse_leak

    tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
    model: Any = load_start(recipe, inputs)
    if recipe.packed:
        refuse_leak(model, rows.train, "documents")
    model = with_adapter(recipe, model, inputs["weights"])
    trainer = LanguageModelTrainer(
        model=model,
        args=TrainingArguments(
            **training_arguments(recipe, steps, checkpoints),
            remove_unused_columns=False,
            ddp_broadcast_buffers=False,  # the load of each rank's experts is its own until they are balanced
        ),
        data_collator=collator(recipe.objective, recipe.packed, tokenizer, model),
        train_dataset=rows.train,
        processing_class=tokenizer,
        compute_loss_func=loss_function(model, shifted=recipe.objective == "causal"),
    )
    refuse_lonely_ranks(trainer.accelerator)
    return trainer

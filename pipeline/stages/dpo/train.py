"""Direct preference optimization through TRL's DPOTrainer, on pairs that are tokens already."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.progress import Track
from pipeline.stages.dpo.config import DpoTrainConfig

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.training.pairs import PairDpoTrainer


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train, and leave `adapter/` or `model/`, see `pipeline.training.loop`.

    Raises StageFailed when the loss is no number, DataError when there are fewer pairs than a batch holds.
    """
    from pipeline.training.loop import sized
    from pipeline.training.preference import load_judged, train_preference

    recipe = DpoTrainConfig.model_validate(config)
    rows = load_judged(inputs, recipe)
    recipe = sized(recipe, rows)

    def make_trainer(steps: int, checkpoints: Path) -> "PairDpoTrainer":
        return _trainer(recipe, inputs, rows.train, steps, checkpoints)

    return train_preference(recipe, rows, inputs, out, track, make_trainer)


def _trainer(
    recipe: DpoTrainConfig, inputs: Mapping[str, Path], rows: "Dataset", steps: int, checkpoints: Path
) -> "PairDpoTrainer":
    """TRL's trainer over our rows and our reference: it neither tokenises nor computes log-probabilities of its own."""
    from pipeline.training.adapters import adapter_config
    from pipeline.training.models import load_start, load_tokenizer
    from pipeline.training.pairs import PairDpoTrainer, pair_batches

    tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
    model = load_start(recipe, inputs)
    return PairDpoTrainer(
        model=model,
        args=_arguments(recipe, steps, checkpoints),
        data_collator=pair_batches(tokenizer),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter_config(recipe, model, inputs["weights"]),
    )


def policy_before_training(
    recipe: DpoTrainConfig, inputs: Mapping[str, Path], rows: "Dataset", checkpoints: Path
) -> "PairDpoTrainer":
    """The trainer without the adapter that it would train: what it then scores by is the reference."""
    from pipeline.training.models import load_start, load_tokenizer
    from pipeline.training.pairs import PairDpoTrainer, pair_batches

    tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
    return PairDpoTrainer(
        model=load_start(recipe, inputs),
        args=_arguments(recipe, 1, checkpoints),
        data_collator=pair_batches(tokenizer),
        train_dataset=rows,
        processing_class=tokenizer,
    )


def _arguments(recipe: DpoTrainConfig, steps: int, checkpoints: Path) -> Any:
    from trl import DPOConfig

    from pipeline.training.preference import preference_arguments

    losses = recipe.losses()
    return DPOConfig(
        **preference_arguments(recipe, steps, checkpoints),
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        beta=recipe.beta,
        label_smoothing=recipe.label_smoothing,
        f_divergence_type=recipe.divergence,
        f_alpha_divergence_coef=recipe.divergence_alpha,
        discopop_tau=recipe.discopop_tau,
        use_weighting=recipe.weighting,
        ld_alpha=recipe.length_alpha,
        precompute_ref_log_probs=True,
        truncation_mode="keep_start",
        max_length=None,
    )

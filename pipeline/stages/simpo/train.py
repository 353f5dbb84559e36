"""Simple preference optimization through TRL's CPOTrainer, on pairs that are tokens already."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.stages.simpo.config import SimpoTrainConfig


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train, and leave `adapter/` or `model/`, see `pipeline.training.loop`.

    Raises StageFailed when the loss is no number, DataError when there are fewer pairs than a batch holds.
    """
    from pipeline.training.preference import load_judged, train_preference
    from pipeline.training.reference_free import PairCpoTrainer, reference_free_trainer

    recipe = SimpoTrainConfig.model_validate(config)
    rows = load_judged(inputs, recipe)

    def make_trainer(steps: int, checkpoints: Path) -> Any:
        return reference_free_trainer(
            PairCpoTrainer, _arguments(recipe, steps, checkpoints), recipe, inputs, rows.train
        )

    return train_preference(recipe, rows, inputs, out, track, make_trainer)


def _arguments(recipe: SimpoTrainConfig, steps: int, checkpoints: Path) -> Any:
    from trl.experimental.cpo import CPOConfig

    from pipeline.training.preference import preference_arguments

    return CPOConfig(
        **preference_arguments(recipe, steps, checkpoints),
        loss_type="simpo",
        beta=recipe.beta,
        simpo_gamma=recipe.gamma,
        cpo_alpha=recipe.sft_weight,
    )

"""The reference's log-probabilities of each answer, and of its neighbour's, once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.stages.kto.config import KtoTrainConfig


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with ref_logps and ref_KL_logps, in the order of the training."""
    from pipeline.stages.kto.train import kto_trainer, ordered_rows
    from pipeline.training.answers import reference_columns
    from pipeline.training.preference_reference import save_reference

    recipe = KtoTrainConfig.model_validate(config)
    policy: Any = None
    metrics: dict[str, float] = {}
    for split in ("train", "validation"):
        if (inputs["rows"] / split).exists():
            rows = ordered_rows(recipe, inputs, split)
            policy = policy or kto_trainer(recipe, inputs, rows, 1, out / "checkpoints", adapter=False)
            metrics |= save_reference(policy, rows, reference_columns(rows), out, split, track)
    return metrics

"""The reference's log-probabilities, once: the reference is the policy that the stage starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.stages.dpo.config import DpoTrainConfig


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Memory-mapped `train/` and `validation/` with ref_chosen_logps and ref_rejected_logps, row by row as prepared."""
    from datasets import load_from_disk

    from pipeline.stages.dpo.train import policy_before_training
    from pipeline.training.pairs import LOGPS
    from pipeline.training.preference_reference import save_reference

    recipe = DpoTrainConfig.model_validate(config)
    policy: Any = None
    metrics: dict[str, float] = {}
    for split in ("train", "validation"):
        if (inputs["rows"] / split).exists():
            rows: Any = load_from_disk(str(inputs["rows"] / split)).remove_columns("id")
            policy = policy or policy_before_training(recipe, inputs, rows, out / "checkpoints")
            metrics |= save_reference(policy, rows, LOGPS, out, split, track)
    return metrics

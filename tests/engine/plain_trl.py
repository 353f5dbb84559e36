"""What every test gives a plain trainer of TRL, so that it trains as the stage does: one place for the comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain_settings(config: Mapping[str, Any], folder: Path, steps: int = 20, **more: Any) -> dict[str, Any]:
    """Arguments of TRL's own configuration classes: the recipe's, in float32 on a CPU, without checkpoints."""
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": config["batch_size"],
        "learning_rate": config["learning_rate"],
        "lr_scheduler_type": config["schedule"],
        "seed": config["seed"],
        "data_seed": config["seed"],
        "logging_steps": 1,
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        **more,
    }

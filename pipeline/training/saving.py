"""The trained part as safetensors, with the tokenizer."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.training.config import TrainConfig
from pipeline.training.step_log import STEPS, VALIDATION


def save_trained(trainer: Any, recipe: TrainConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """`adapter/`, or the whole `model/`, and the logs; rank 0 writes."""
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    folder = out / ("model" if recipe.adapter.kind == "none" else "adapter")
    model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    if recipe.adapter.kind != "none":
        _make_repeatable(folder, inputs["weights"])
    for name in (STEPS, VALIDATION):
        shutil.copyfile(out / "checkpoints" / name, out / name)


def _make_repeatable(folder: Path, weights: Path) -> None:
    """PEFT writes this machine's path of the base model, and sets in any order; the same run gives the same bytes."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"model/{weights.parent.name}"
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    (folder / "README.md").unlink(missing_ok=True)  # a template of a card that says nothing
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

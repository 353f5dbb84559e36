"""The recipe in the words of transformers. Batch sizes are global here: what a device takes is derived."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StageFailed
from pipeline.training.config import Recipe, TrainConfig, split_batch

if TYPE_CHECKING:
    from accelerate import Accelerator


def training_arguments(recipe: TrainConfig, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What every trainer is given, TRL's and transformers' own."""
    import torch

    per_device, accumulation = split_batch(recipe.batch_size, recipe.micro_batch_size, world_size())
    on_cpu = not torch.accelerator.is_available()
    return {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": per_device,
        "per_device_eval_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_every,
        "save_total_limit": 2,
        "logging_steps": 1,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        **_optimisation(recipe, recipe.dtype),
    }


def _optimisation(recipe: Recipe, dtype: str) -> dict[str, Any]:
    """How the weights move. Weights that are all trained stay in float32 and are computed with in `dtype`."""
    autocast = recipe.adapter.kind == "none"
    return {
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": autocast and dtype == "bfloat16",
        "fp16": autocast and dtype == "float16",
        "activation_checkpointing": recipe.activation_checkpointing,
    }


def world_size() -> int:
    """How many ranks were started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_lonely_ranks(accelerator: "Accelerator") -> None:
    """Ranks that train alone would each see half of a batch."""
    if accelerator.num_processes != world_size():
        joined = accelerator.num_processes
        raise StageFailed(f"{world_size()} ranks were started, but {joined} joined; check the launch settings")

"""The recipe in the words of transformers. Batch sizes are global here: what a device takes is derived."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StageFailed
from pipeline.training.config import TrainConfig, leaves_model, split_batch
from pipeline.training.parallel import groups, parallelism

if TYPE_CHECKING:
    from accelerate import Accelerator


def training_arguments(recipe: TrainConfig, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What every trainer is given, TRL's and transformers' own."""
    import torch

    from pipeline.training.trackers import run_names

    per_device, accumulation = split_batch(recipe.batch_size, recipe.micro_batch_size, groups().batches)
    on_cpu = not torch.accelerator.is_available()
    _refuse_gpu_only(recipe, on_cpu)
    by_callback = recipe.checkpoint_minutes is not None or recipe.checkpoint_every is None or groups().tensor > 1
    return {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": per_device,
        "per_device_eval_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "eval_strategy": "no",
        "save_strategy": "no" if by_callback else "steps",
        "save_steps": recipe.checkpoint_every or 1,
        "save_total_limit": 2,
        "logging_steps": 1,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        **run_names(checkpoints.parent),
        **parallelism(),
        "disable_tqdm": True,
        **_optimisation(recipe, steps),
    }


SCHEDULES = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
"""What transformers calls a schedule, where it is another name."""
OPTIMIZERS = {"adamw_8bit": "adamw_8bit", "paged_adamw": "paged_adamw_32bit", "paged_adamw_8bit": "paged_adamw_8bit"}
"""What transformers calls the optimizers of bitsandbytes."""


def _optimisation(recipe: TrainConfig, steps: int) -> dict[str, Any]:
    """How the weights move. Weights that are all trained stay in float32 and are computed with in `dtype`."""
    autocast, dtype = leaves_model(recipe.adapter), recipe.dtype
    more: dict[str, Any] = {}
    if recipe.schedule == "wsd":
        more["lr_scheduler_kwargs"] = {
            "num_decay_steps": max(1, round(recipe.decay_share * steps)),
            "decay_type": "linear",
        }
    if recipe.optimizer in (*OPTIMIZERS, "adafactor"):
        more["optim"] = OPTIMIZERS.get(recipe.optimizer, recipe.optimizer)
    return {
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": SCHEDULES.get(recipe.schedule, recipe.schedule),
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": autocast and dtype == "bfloat16",
        "fp16": autocast and dtype == "float16",
        "activation_checkpointing": recipe.activation_checkpointing,
        "use_liger_kernel": recipe.liger,
        "torch_compile": recipe.compile,
        **more,
    }


def _refuse_gpu_only(recipe: TrainConfig, on_cpu: bool) -> None:
    """What needs a GPU or an extra package says so before the model is loaded into it."""
    if on_cpu and (shared := groups().context) > 1:
        raise StageFailed(
            f"launch.context_parallel {shared}: needs GPUs, torch has no such attention for CPUs; set it to 1"
        )
    if on_cpu and recipe.optimizer in OPTIMIZERS:
        raise StageFailed(f"optimizer {recipe.optimizer}: needs a GPU; use adamw or adafactor")
    if recipe.liger and (on_cpu or find_spec("liger_kernel") is None):
        lacking = "a GPU" if on_cpu else "the package liger-kernel (pip install liger-kernel)"
        raise StageFailed(f"liger: needs {lacking}; set liger=false")


def world_size() -> int:
    """How many ranks were started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_lonely_ranks(accelerator: "Accelerator") -> None:
    """Ranks that train alone would each see half of a batch."""
    if accelerator.num_processes != world_size():
        joined = accelerator.num_processes
        raise StageFailed(f"{world_size()} ranks were started, but {joined} joined; check the launch settings")

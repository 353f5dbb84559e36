"""The Accelerate configuration files of the launch groups, as `accelerate config` would write them."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import write_text
from pipeline.config import LaunchConfig

FILE = "accelerate.yaml"
"""Under the `logs/` of an artifact: what its ranks were started with."""

FSDP2 = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_reshard_after_forward": True,
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_cpu_ram_efficient_loading": False,  # earlier adapters are merged on every rank before the weights are sharded
    "fsdp_offload_params": False,
}


def accelerate_settings(launch: LaunchConfig) -> dict[str, Any]:
    """What `accelerate launch --config_file` is given for a launch group of GPUs.

    Mixed precision, gradient accumulation and clipping are the recipe's: the trainer hands them on.
    """
    several = "MULTI_GPU" if launch.processes > 1 else "NO"
    settings: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": several,
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": launch.processes,
        "mixed_precision": "no",
        "use_cpu": False,
        "debug": False,
    }
    if launch.kind == "fsdp2":
        if launch.tensor_parallel > 1:  # transformers divides and shards the model as it loads it
            return settings
        sharded = settings | {"distributed_type": "FSDP", "fsdp_config": dict(FSDP2)}
        return sharded | _grouped(launch) if launch.replicas * launch.context_parallel > 1 else sharded
    if launch.kind in ("deepspeed_zero2", "deepspeed_zero3"):
        stage = int(launch.kind[-1])
        zero = {
            "zero_stage": stage,
            "offload_optimizer_device": "none",
            "offload_param_device": "none",
            "zero3_init_flag": False,
            "zero3_save_16bit_model": stage == 3,
        }
        return settings | {"distributed_type": "DEEPSPEED", "deepspeed_config": zero}
    return settings


def _grouped(launch: LaunchConfig) -> dict[str, Any]:
    """Accelerate's `ParallelismConfig` of replicas of shards (HSDP), and of ranks that share sequences."""
    context = launch.context_parallel
    sizes = {"dp_replicate_size": launch.replicas, "dp_shard_size": launch.shards // context}
    sizes |= {"tp_size": 1, "cp_size": context}
    return {"parallelism_config": {f"parallelism_config_{name}": size for name, size in sizes.items()}}


def config_file(launch: LaunchConfig, folder: Path) -> Path:
    """The user's own file, or where `write_config_file` puts ours."""
    return Path(launch.accelerate_config) if launch.accelerate_config else folder / "logs" / FILE


def write_config_file(launch: LaunchConfig, folder: Path) -> None:
    """Leave the file beside the logs of an artifact, unless the user has given one."""
    if launch.accelerate_config is None:
        write_text(config_file(launch, folder), yaml.safe_dump(accelerate_settings(launch), sort_keys=False))

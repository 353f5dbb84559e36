"""The launches for 8 GPUs of 80 GB and for 4 × 8: composed, read by Accelerate's own code, their memory estimated."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.accelerate_file import accelerate_settings, write_config_file
from pipeline.cli import compose
from pipeline.config import LaunchConfig, RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.launch import rank_command
from pipeline.node_runner import node_command
from pipeline.training.activation_memory import Batch
from pipeline.training.config import TrainConfig
from pipeline.training.memory import Memory, states, training_memory
from tests.engine.test_preflight import LLAMA_8B

LAUNCHES = ["fsdp2_1x8", "fsdp2_4x8", "hsdp_4x8", "deepspeed_zero3_1x8", "deepspeed_zero3_4x8"]
GB80 = 80e9


def composed(launch: str, *overrides: str) -> RunConfig:
    given = ["+experiment=lora_llama", "model=llama3_1_8b", f"launch={launch}", "stages.sft.batch_size=128", *overrides]
    return validate(RunConfig, compose(given))


def full(launch: LaunchConfig, tokens: float = 2048) -> Memory:
    recipe = TrainConfig.model_validate(
        {
            **{"adapter": {"kind": "none"}, "dtype": "bfloat16", "max_steps": 10, "activation_checkpointing": True},
            **{"seed": 1, "attention": "sdpa", "trust_remote_code": False},
        }
    )
    return training_memory(recipe, LLAMA_8B, Batch(1, tokens, on_gpu=True), launch.kind, launch.shards)


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_big_launch_composes(name: str) -> None:
    launch = composed(name).launch
    nodes, gpus = (int(part) for part in name.rsplit("_", 1)[1].split("x"))
    assert (launch.nodes, launch.processes) == (nodes, nodes * gpus) and launch.on_gpus
    assert launch.shards == (8 if nodes == 1 or name.startswith("hsdp") else 32)


@pytest.mark.parametrize("name", LAUNCHES)
def test_accelerate_reads_what_it_is_given(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own parser of the file and the command, and its own ParallelismConfig from the environment it would set."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils.launch import prepare_extend_env_parallelism_config

    launch = composed(name).launch
    write_config_file(launch, tmp_path)
    command = rank_command(launch, tmp_path)
    if launch.nodes > 1:
        command = node_command(launch, 2, {"address": "n0", "port": 29500}, tmp_path)
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[3:]))
    assert args.num_processes == launch.processes and int(args.num_machines) == launch.nodes
    assert args.use_fsdp == (launch.kind == "fsdp2") and args.use_deepspeed == launch.kind.startswith("deepspeed")
    assert bool(args.use_parallelism_config) == (launch.replicas > 1)
    if launch.replicas > 1:
        environment: Any = prepare_extend_env_parallelism_config(args, {})
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        sizes = ParallelismConfig()
        assert (sizes.dp_replicate_size, sizes.dp_shard_size) == (4, 8)
        assert sizes.total_size == launch.processes and not sizes.tp_enabled and not sizes.cp_enabled
        assert os.environ["ACCELERATE_USE_PARALLELISM_CONFIG"] == "true"


@pytest.mark.parametrize("name", LAUNCHES)
def test_an_8b_model_fits_into_80_gb_with_all_of_its_training(name: str) -> None:
    launch = composed(name).launch
    assert full(launch).total < 0.8 * GB80
    assert full(LaunchConfig(kind="ddp", processes=8)).total > GB80, "and needs the shards for it"


def test_replicas_divide_what_is_sharded_and_shards_alone_divide_it_further() -> None:
    """ZeRO's arithmetic: 16 bytes per weight of mixed-precision Adam, over the ranks that share a copy."""
    for name, shards in {"fsdp2_1x8": 8, "hsdp_4x8": 8, "fsdp2_4x8": 32, "deepspeed_zero3_4x8": 32}.items():
        launch = composed(name).launch
        own = states(8e9, 8e9, 4, 4, 8, launch.kind, launch.shards)
        assert own.total == pytest.approx(16 * 8e9 / shards)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["launch=ddp", "launch.processes=8", "launch.replicas=2"], "replicas 2 is for launch=fsdp2, not ddp"),
        (["launch=fsdp2_1x8", "launch.replicas=3"], "8 processes cannot hold 3 replicas; make it a multiple"),
    ],
)
def test_replicas_that_cannot_be(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        validate(RunConfig, compose(["+experiment=smoke", *overrides]))


def test_one_replica_needs_no_mesh() -> None:
    assert "parallelism_config" not in accelerate_settings(LaunchConfig(kind="fsdp2", processes=8))
    several = accelerate_settings(LaunchConfig(kind="fsdp2", processes=8, replicas=2))
    assert yaml.safe_load(yaml.safe_dump(several))["parallelism_config"]["parallelism_config_dp_shard_size"] == 4


def test_the_figures_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    eight, more = (full(LaunchConfig(kind="fsdp2", processes=count)).total / 1e9 for count in (8, 32))
    assert f"{eight:.0f} GB on 8 GPUs, {more:.0f} GB on 32" in page, f"{eight:.0f} GB on 8 GPUs, {more:.0f} GB on 32"

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
from pipeline.parallel_config import environment_of
from pipeline.training.activation_memory import Batch
from pipeline.training.config import TrainConfig
from pipeline.training.memory import Memory, states, training_memory
from pipeline.training.model_sizes import ModelFacts
from pipeline.training.parallel import divided_weights, parallelism
from tests.engine.test_preflight import LLAMA_8B

PLAIN = ["fsdp2_1x8", "fsdp2_4x8", "hsdp_4x8", "deepspeed_zero3_1x8", "deepspeed_zero3_4x8"]
DIVIDED = ["tp2_fsdp2_1x8", "tp8_fsdp2_4x8", "tp4_hsdp_4x8"]
RINGS = ["cp4_fsdp2_1x8", "cp8_fsdp2_4x8"]
LAUNCHES = [*PLAIN, *DIVIDED, *RINGS]
LLAMA_70B = ModelFacts(70_553_706_496, 80, 8192, 64, 128_256, 8, 128, 28_672)
GB80 = 80e9


def composed(launch: str, *overrides: str) -> RunConfig:
    given = ["+experiment=lora_llama", "model=llama3_1_8b", f"launch={launch}", "stages.sft.batch_size=128", *overrides]
    return validate(RunConfig, compose(given))


def recipe_of(adapter: str) -> TrainConfig:
    given = {"adapter": {"kind": adapter}, "dtype": "bfloat16", "max_steps": 10, "activation_checkpointing": True}
    return TrainConfig.model_validate({**given, "seed": 1, "attention": "sdpa", "trust_remote_code": False})


def full(launch: LaunchConfig, tokens: float = 2048, facts: ModelFacts = LLAMA_8B) -> Memory:
    part = tokens / launch.context_parallel
    batch = Batch(1, part, masked=False, on_gpu=True, tensor=launch.tensor_parallel)
    return training_memory(recipe_of("none"), facts, batch, launch.kind, launch.shards)


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_big_launch_composes(name: str) -> None:
    launch = composed(name).launch
    nodes, gpus = (int(part) for part in name.rsplit("_", 1)[1].split("x"))
    assert (launch.nodes, launch.processes) == (nodes, nodes * gpus) and launch.on_gpus
    assert launch.shards == (8 if nodes == 1 or "hsdp" in name else 32)
    assert launch.batches == launch.processes // launch.group
    assert (launch.group > 1) == (name not in PLAIN)


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
    args, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(command[command.index("accelerate.commands.launch") + 1 :])
    )
    assert args.num_processes == launch.processes and int(args.num_machines) == launch.nodes
    assert args.use_fsdp == (
        launch.kind == "fsdp2" and name not in DIVIDED
    ) and args.use_deepspeed == launch.kind.startswith("deepspeed")
    assert bool(args.use_parallelism_config) == (name in ("hsdp_4x8", *RINGS))
    if args.use_parallelism_config:
        environment: Any = prepare_extend_env_parallelism_config(args, {})
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        sizes = ParallelismConfig()
        assert (sizes.dp_replicate_size, sizes.cp_size) == (launch.replicas, launch.context_parallel)
        assert sizes.total_size == launch.processes and not sizes.tp_enabled
        assert sizes.cp_size == 1 or (sizes.cp_backend, sizes.cp_handler.cp_comm_strategy) == ("torch", "allgather")  # pyright: ignore
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


@pytest.mark.parametrize("name", DIVIDED)
def test_transformers_reads_how_a_model_is_divided(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own configuration, as a rank makes it from what it is told; its mesh has a place for every rank."""
    launch = composed(name).launch
    for variable, value in {**environment_of(launch), "WORLD_SIZE": str(launch.processes)}.items():
        monkeypatch.setenv(variable, value)
    plan = divided_weights(recipe_of("none"))["distributed_config"]
    assert plan.tp_size == launch.tensor_parallel and plan.dp_replicate_size == launch.replicas
    assert plan.dp_size * plan.tp_size * plan.pp_size == launch.processes and plan.fsdp_mixed_precision
    assert not divided_weights(recipe_of("lora"))["distributed_config"].fsdp_mixed_precision
    assert parallelism()["parallelism_config"].total_size == launch.processes


def test_one_replica_needs_no_mesh() -> None:
    assert "parallelism_config" not in accelerate_settings(LaunchConfig(kind="fsdp2", processes=8))
    several = accelerate_settings(LaunchConfig(kind="fsdp2", processes=8, replicas=2))
    assert yaml.safe_load(yaml.safe_dump(several))["parallelism_config"]["parallelism_config_dp_shard_size"] == 4


def test_the_figures_in_the_documents() -> None:
    """Each cell of the table of memory in docs/scale.md, and that what is called too much is more than 80 GB."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    columns = ((2048, LLAMA_8B), (131_072, LLAMA_8B), (2048, LLAMA_70B), (32_768, LLAMA_70B))
    for name in LAUNCHES:
        launch = composed(name).launch
        found = [full(launch, tokens, facts).total for tokens, facts in columns]
        cells = [f"{value / 1e9:.0f}" if value < GB80 else f"*{value / 1e9:.0f}*" for value in found]
        assert f"| `{name}` | {' | '.join(cells)} |" in page, f"| `{name}` | {' | '.join(cells)} |"

"""The launch groups: what Accelerate is told, read by its own code."""

from pathlib import Path

import pytest
import yaml

from pipeline.accelerate_file import accelerate_settings, write_config_file
from pipeline.cli import compose
from pipeline.config import LaunchConfig, RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.launch import Workers, rank_command
from pipeline.plan import make_plan

SHARDED = ["fsdp2", "deepspeed_zero2", "deepspeed_zero3"]


def gate(*overrides: str) -> RunConfig:
    return validate(RunConfig, compose(["+experiment=smoke", *overrides]))


@pytest.mark.parametrize("kind", ["ddp", *SHARDED])
def test_the_file_is_one_that_accelerate_reads(tmp_path: Path, kind: str) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    launch = gate(f"launch={kind}", "launch.processes=4").launch
    write_config_file(launch, tmp_path)
    command = rank_command(launch, tmp_path)
    file = command[command.index("--config_file") + 1]
    read = load_config_from_file(file)
    assert isinstance(read, ClusterConfig) and read.num_processes == 4 and not read.use_cpu
    args = launch_command_parser().parse_args(command[command.index("accelerate.commands.launch") + 1 :])
    args, _, _ = _validate_launch_command(args)
    assert args.training_script == "pipeline.worker" and args.module and args.num_processes == 4
    assert (args.use_fsdp, args.use_deepspeed) == (kind == "fsdp2", kind.startswith("deepspeed"))
    if kind == "fsdp2":
        assert int(args.fsdp_version) == 2 and args.fsdp_auto_wrap_policy == "TRANSFORMER_BASED_WRAP"
        assert str(args.fsdp_reshard_after_forward).lower() == "true"
    elif kind != "ddp":
        assert args.zero_stage == int(kind[-1]) and str(args.zero3_init_flag).lower() == "false"
    else:
        assert args.multi_gpu


def test_one_process_is_not_several() -> None:
    assert accelerate_settings(LaunchConfig(kind="ddp"))["distributed_type"] == "NO"


def test_your_own_file(tmp_path: Path) -> None:
    """Its number of processes is the run's, so that the batch is shared out rightly."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({**accelerate_settings(LaunchConfig(kind="fsdp2", processes=3))}), encoding="utf-8")
    launch = gate("launch=accelerate", f"launch.accelerate_config={mine}").launch
    assert launch.processes == 3
    command = rank_command(launch, tmp_path)
    assert command[command.index("--config_file") + 1] == str(mine)
    write_config_file(launch, tmp_path)
    assert not (tmp_path / "logs").exists()
    with pytest.raises(ConfigError, match="batch_size 8 cannot be shared by 3 processes"):
        make_plan(gate("launch=accelerate", f"launch.accelerate_config={mine}", f"outputs={tmp_path}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["launch=accelerate"], "launch=accelerate goes together with launch.accelerate_config=PATH"),
        (["launch=ddp", "launch.accelerate_config=x", "launch.processes=2"], "launch=accelerate goes together with"),
        (
            ["launch=accelerate", "launch.accelerate_config=absent.yaml"],
            "accelerate_config absent.yaml: no Accel",
        ),
    ],
)
def test_a_file_that_is_not_there(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gate(*overrides)


@pytest.mark.parametrize("kind", ["deepspeed_zero2", "deepspeed_zero3"])
def test_deepspeed_says_that_it_is_missing(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.launch

    monkeypatch.setattr(pipeline.launch, "find_spec", lambda _: None)
    launch = gate(f"launch={kind}", "launch.processes=4").launch
    with (
        pytest.raises(StageFailed, match=f"launch={kind}: needs deepspeed .pip install deepspeed., or launch=fsdp2"),
        Workers(launch) as workers,
    ):
        workers.run(tmp_path, ranks=True, on_event=lambda _: None)


@pytest.mark.parametrize("kind", ["ddp", *SHARDED])
def test_the_launch_is_no_part_of_a_fingerprint(tmp_path: Path, kind: str) -> None:
    def prints(*overrides: str) -> list[str]:
        return [step.node.fingerprint for step in make_plan(gate(*overrides, f"outputs={tmp_path}")).steps]

    assert prints(f"launch={kind}", "launch.processes=4") == prints()


@pytest.mark.parametrize("launch", ["fsdp2", "deepspeed_zero3", "ddp"])
def test_the_gpu_sized_variants_compose(launch: str) -> None:
    """`experiment=qlora_llama` on an 8B model, as docs/adapters.md gives it: gated; its weights need the hub."""
    overrides = ["+experiment=qlora_llama", "model=llama3_1_8b", f"launch={launch}", "launch.processes=8"]
    config = validate(RunConfig, compose([*overrides, "stages.sft.batch_size=64", "stages.sft.micro_batch_size=2"]))
    assert config.launch.processes == 8 and config.model.dtype == "bfloat16"
    assert config.run == ["filter", "sft", "merge", "evaluate"]

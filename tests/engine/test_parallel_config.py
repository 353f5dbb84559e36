"""Ranks that share a batch: which launches, models and recipes can be grouped so; all else is refused at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accelerate_file import accelerate_settings
from pipeline.cli import compose
from pipeline.config import LaunchConfig, RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.launch import worker_environment
from pipeline.parallel_config import GROUPS, environment_of
from pipeline.plan import make_plan
from pipeline.training.activation_memory import Batch, activation_bytes
from pipeline.training.config import TrainConfig
from pipeline.training.memory import training_memory
from pipeline.training.parallel import Groups, groups
from tests.engine.test_preflight import LLAMA_8B

PAIRS = ["launch=cpu_ranks", "launch.processes=2", "launch.tensor_parallel=2"]
RINGS = ["launch=fsdp2", "launch.processes=4", "launch.context_parallel=2"]


def gate(*overrides: str) -> RunConfig:
    return validate(RunConfig, compose(["+experiment=smoke", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["launch=ddp", "launch.processes=4", "launch.tensor_parallel=2"],
            "launch: tensor_parallel 2 is for launch=fsdp2 or cpu_ranks, not ddp",
        ),
        (
            ["launch=deepspeed_zero3", "launch.processes=4", "launch.tensor_parallel=2"],
            "launch: tensor_parallel 2 is for launch=fsdp2 or cpu_ranks, not deepspeed_zero3",
        ),
        (["launch.tensor_parallel=2"], "launch: tensor_parallel 2 is for launch=fsdp2 or cpu_ranks, not single"),
        (
            ["launch=cpu_ranks", "launch.processes=4", "launch.context_parallel=2"],
            "context_parallel 2 is for launch=fsdp2 on GPUs, not cpu_ranks; on a CPU torch has no context parallel",
        ),
        (
            ["launch=fsdp2", "launch.processes=8", "launch.tensor_parallel=3"],
            "8 processes cannot be cut into tensor_parallel groups of 3; make it a multiple of 3",
        ),
        (
            ["launch=fsdp2", "launch.processes=8", "launch.tensor_parallel=4", "launch.replicas=4"],
            "8 processes cannot be cut into tensor_parallel groups of 4 in each of 4 replicas; make it a multip",
        ),
        (
            ["launch=fsdp2", "launch.processes=8", "launch.tensor_parallel=2", "launch.replicas=4"],
            "tensor_parallel 2 leaves nothing to shard in each of 4 replicas; set replicas=2 or less",
        ),
        (
            ["launch=fsdp2", "launch.processes=8", "launch.nodes=4", "launch.context_parallel=4"],
            "context_parallel 4: a group must lie on one node, of 2 processes; choose a divisor of 2",
        ),
        (
            ["launch=fsdp2", "launch.processes=8", "launch.tensor_parallel=2", "launch.context_parallel=2"],
            "tensor_parallel 2 and context_parallel 2 do not go together; set one of them to 1",
        ),
    ],
)
def test_launches_that_cannot_be(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gate(*overrides)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([*PAIRS, "adapter@stages.sft.adapter=qlora"], "stages.sft: adapter qlora does not go with launch.tensor_para"),
        ([*RINGS, "adapter@stages.sft.adapter=dora"], "launch.context_parallel=2; use none or lora"),
        ([*PAIRS, "stages.sft.optimizer=muon"], "optimizer muon does not go with launch.tensor_parallel=2; set optim"),
        (
            [*PAIRS, "stages.sft.validate_every=5", "stages.sft.early_stopping=2"],
            "early_stopping 2 does not go with launch.tensor_parallel=2; set early_stopping=null",
        ),
        ([*PAIRS, "stages.sft.compile=true"], "compile true does not go with launch.tensor_parallel=2; set compile=fa"),
        ([*RINGS, "stages.sft.packing=best_fit"], "packing best_fit does not go with launch.context_parallel=2, which"),
        ([*RINGS, "model.attention=eager"], "model.attention eager does not go with launch.context_parallel=2; set"),
        (
            [*PAIRS, "run=[sft,more]", "stages.more={kind: sft, dataset: sample}"],
            "stages.more: it starts from an adapter, which cannot be merged into the parts of launch.tensor_parallel"
            "=2; add a stage of kind merge",
        ),
        (
            [*RINGS, "run=[more]", "stages.more={kind: pretrain, dataset: sample}"],
            "stages.more: kind pretrain does not go with launch.context_parallel=2; only sft",
        ),
        (
            [*PAIRS, "launch.processes=6", "launch.tensor_parallel=3", "stages.sft.batch_size=6"],
            "launch.tensor_parallel 3: the model has 4 num_attention_heads, which it must divide; choose a divisor of"
            " 4 (2, 4)",
        ),
    ],
)
def test_what_groups_cannot_train_is_refused_by_the_plan(overrides: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(gate(*overrides, f"outputs={tmp_path}"))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_preferences_are_refused_by_name(tmp_path: Path) -> None:
    judged = ["run=[judged]", "stages.judged={kind: orpo, dataset: pairs}", f"outputs={tmp_path}"]
    for groups_, expected in (
        (PAIRS, "kind orpo does not go with launch.tensor_parallel=2; only pretrain, sft, dpo, kto"),
        (RINGS, "kind orpo does not go with launch.context_parallel=2; only sft"),
    ):
        with pytest.raises(ConfigError, match=expected):
            make_plan(gate(*groups_, *judged))


def test_a_batch_is_shared_out_among_groups(tmp_path: Path) -> None:
    """8 rows on 4 pairs are 2 each; over 8 ranks of their own one each; 4 rows would be too few for those."""
    four = ["launch=cpu_ranks", "launch.processes=8", "stages.sft.batch_size=4", f"outputs={tmp_path}"]
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared by 8 processes"):
        make_plan(gate(*four))
    assert make_plan(gate(*four, "launch.tensor_parallel=2")).config.launch.batches == 4


def test_groups_are_no_part_of_a_fingerprint(tmp_path: Path) -> None:
    def prints(*overrides: str) -> list[str]:
        return [step.node.fingerprint for step in make_plan(gate(*overrides, f"outputs={tmp_path}")).steps]

    assert prints(*PAIRS) == prints(*RINGS) == prints()


def test_ranks_are_told_their_groups_and_an_outer_launch_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = gate(*PAIRS).launch
    for name, value in {**environment_of(launch), "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert groups() == Groups(2, tensor=2) and groups().batches == 1
    assert not set(GROUPS) & set(worker_environment())


def test_the_command_refuses_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        f"try: main(['+experiment=smoke', 'launch=cpu_ranks', 'launch.processes=3', 'launch.tensor_parallel=3', "
        f"'stages.sft.batch_size=3', 'outputs={tmp_path}'])\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: launch.tensor_parallel 3: the model has 4 num_attention_heads"), done.stderr
    assert done.stderr.count("\n") == 1


@given(
    places=st.integers(1, 60),
    size=st.integers(1, 9),
    tensor=st.sampled_from([1, 2, 4]),
    batches=st.integers(1, 5),
)
def test_every_row_counts_once_per_group_and_all_ranks_read_as_often(
    places: int, size: int, tensor: int, batches: int
) -> None:
    shared = Groups(tensor * batches, tensor)
    dealt = [shared.dealt(range(places), size, rank) for rank in range(shared.ranks)]
    assert len({len(each) for each in dealt}) == 1
    counted = [place for each in dealt[::tensor] for batch, counts in each if counts for place in batch]
    assert sorted(counted) == list(range(places))
    assert all(1 <= len(batch) <= size for each in dealt for batch, _ in each)
    for rank, each in enumerate(dealt):
        assert each == dealt[rank - rank % tensor], "ranks of a group read the same rows"


def step(tensor: int = 1, launch: str = "fsdp2", shards: int = 8, tokens: float = 4096, adapter: str = "none"):
    given = {"adapter": {"kind": adapter}, "dtype": "bfloat16", "max_steps": 9, "activation_checkpointing": False}
    recipe = TrainConfig.model_validate({**given, "seed": 1, "attention": "sdpa", "trust_remote_code": False})
    batch = Batch(1, tokens, masked=False, on_gpu=True, tensor=tensor)
    return recipe, batch, training_memory(recipe, LLAMA_8B, batch, launch, shards)


def test_what_is_divided_takes_a_part() -> None:
    """Weights and states over all ranks of a copy; of a block's activations, heads and widths over the group."""
    recipe, whole, alone = step()
    _, divided, pairs = step(tensor=2)
    assert pairs.weights == alone.weights and pairs.optimizer == alone.optimizer == 8 * 8_030_261_248 / 8
    kept, parts = (activation_bytes(recipe, LLAMA_8B, batch) / 32 / 4096 for batch in (whole, divided))
    inner, head = 14336, 2 * 2 * (4096 + 1024)  # queries, keys, values, output
    divided_bytes = 3 * inner * 2 + head + 2 * inner  # beside the gate, attention, and what down_proj reads
    assert kept - parts == pytest.approx(divided_bytes / 2)
    assert step(launch="cpu_ranks", tensor=2, shards=2)[2].weights == 4 * 8_030_261_248 / 2


def test_divided_sequences_keep_a_part_of_the_activations() -> None:
    """Four ranks that divide a row of 32,768 tokens keep what one does of 8,192."""
    long, part = (step(tokens=tokens)[2] for tokens in (32768, 8192))
    assert part.activations == pytest.approx(long.activations / 4) and part.weights == long.weights


def test_what_accelerate_is_told() -> None:
    """transformers divides matrices as it loads, so that Accelerate must shard nothing; sequences are Accelerate's."""
    pairs = accelerate_settings(LaunchConfig(kind="fsdp2", processes=8, tensor_parallel=2))
    assert pairs["distributed_type"] == "MULTI_GPU" and "fsdp_config" not in pairs
    rings = accelerate_settings(LaunchConfig(kind="fsdp2", processes=32, replicas=2, context_parallel=4))
    told = {name.removeprefix("parallelism_config_"): size for name, size in rings["parallelism_config"].items()}
    assert told == {"dp_replicate_size": 2, "dp_shard_size": 4, "tp_size": 1, "cp_size": 4}


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("tp_size", "use launch=fsdp2 with launch.tensor_parallel=2"),
        ("cp_size", "use launch=fsdp2 with launch.context_par"),
    ],
)
def test_groups_of_your_own_file_are_refused(tmp_path: Path, name: str, instead: str) -> None:
    """The batch would be shared out among ranks that read the same rows."""
    file = tmp_path / "mine.yaml"
    sizes = {"parallelism_config": {f"parallelism_config_{name}": 2}}
    file.write_text(yaml.safe_dump(accelerate_settings(LaunchConfig(kind="fsdp2", processes=4)) | sizes))
    for more in ([], ["launch.processes=4"]):
        with pytest.raises(ConfigError, match=f"{name} 2: its ranks would share a batch; {instead}"):
            gate("launch=accelerate", f"launch.accelerate_config={file}", *more)


@pytest.mark.end_to_end
def test_a_checkpoint_of_another_division_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its optimizer states are in parts; transformers would pass over them in silence."""
    from pipeline.training.checkpoints import refuse_other_recipe

    recipe = step()[0]
    monkeypatch.setenv(GROUPS[0], "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    refuse_other_recipe(tmp_path, recipe, resumed=False)
    refuse_other_recipe(tmp_path, recipe, resumed=True)
    monkeypatch.setenv(GROUPS[0], "1")
    with pytest.raises(StageFailed, match="weights was divided by 2 ranks, 2 times, is whole"):
        refuse_other_recipe(tmp_path, recipe, resumed=True)

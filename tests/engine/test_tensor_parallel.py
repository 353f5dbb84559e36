"""Ranks that divide matrices train as one rank does: losses, checkpoints, weights, validation."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from data_prep.rows import write_rows
from pipeline.errors import StageFailed
from pipeline.parallel_config import GROUPS, ParallelConfig, environment_of
from pipeline.training.checkpoints import is_complete
from pipeline.training.parallel import refuse_undivided_heads
from pipeline.training.step_log import read_log
from tests.conftest import Finished, run_pipeline
from tests.engine.divided_ranks import ALL
from tests.engine.tiny_training import first_weights, prepared, rows_of, train

SETTINGS: dict[str, Any] = {"checkpoint_every": 7, "micro_batch_size": 4, "validate_every": 10}
"""Accumulation in two steps; five validation rows, which two groups share unevenly."""


class Trainings:
    """The same trainings on one rank and on ranks in groups, in folders of one place."""

    def __init__(self, place: Path, kinds: list[str], changes: dict[str, Any]):
        self.place, self.kinds, self.changes = place, kinds, changes
        self.inputs = {kind: self._inputs(kind) for kind in kinds}

    def _inputs(self, kind: str) -> dict[str, Path]:
        folder = self.place / kind / "prepared"
        write_rows(folder / "data", "validation", iter(rows_of(ALL[kind])[:5]))
        return prepared(ALL[kind], first_weights(self.place / kind, ALL[kind].architecture), folder)

    def alone(self) -> None:
        for kind in self.kinds:
            train(ALL[kind], self.inputs[kind], self.place / kind / "alone", **self.changes)

    def work(self, kind: str, out: str) -> dict[str, Any]:
        """What tests.engine.divided_ranks is given for one training."""
        inputs = {name: str(path) for name, path in self.inputs[kind].items()}
        return {"kind": kind, "inputs": inputs, "changes": self.changes, "out": str(self.place / kind / out)}

    def in_groups(self, ranks: int, replicas: int) -> None:
        work = []
        for kind in self.kinds:
            first = self.work(kind, "divided")
            if "reference" in self.inputs[kind]:
                work.append({**self.work(kind, "reference"), "node": "reference"})
            work += [first, {**self.work(kind, "divided again"), "first": first["out"], "step": 7}]
        (self.place / "work.json").write_text(json.dumps(work), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command += ["-m", "tests.engine.divided_ranks", str(self.place / "work.json")]
        told = environment_of(ParallelConfig(tensor_parallel=2, replicas=replicas))
        told |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **told}, timeout=900, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]

    def losses(self, kind: str, out: str, log: str = "steps.jsonl") -> list[float]:
        text = (self.place / kind / out / log).read_text(encoding="utf-8")
        return [json.loads(line)["loss"] for line in text.splitlines()]


def trained(
    request: pytest.FixtureRequest, ranks: int, kinds: list[str], replicas: int = 1, **changes: Any
) -> Trainings:
    place = request.getfixturevalue("tmp_path_factory").mktemp(f"ranks{ranks}")
    found = Trainings(place, kinds, SETTINGS | changes)
    found.alone()
    found.in_groups(ranks, replicas)
    return found


@pytest.fixture(scope="module")
def two(request: pytest.FixtureRequest) -> Trainings:
    return trained(request, 2, ["sft full", "sft lora"], max_steps=20)


@pytest.fixture(scope="module")
def more(request: pytest.FixtureRequest) -> Trainings:
    """Judged answers, an own architecture, and weights that embedding and output layer share."""
    return trained(request, 2, ["own", "tied", "dpo", "kto"], max_steps=12)


@pytest.fixture(scope="module")
def four(request: pytest.FixtureRequest) -> Trainings:
    """Two groups of two: over the groups the weights lie in shards."""
    return trained(request, 4, ["sft full", "sft lora", "tied"], max_steps=12)


@pytest.fixture(scope="module")
def eight(request: pytest.FixtureRequest) -> Trainings:
    """Two replicas of two shards of pairs."""
    changes = {"micro_batch_size": 2, "validate_every": None, "max_steps": 9}
    return trained(request, 8, ["sft full", "sft lora"], replicas=2, **changes)


def agree(found: Trainings, kind: str) -> None:
    """Losses within 1e-5, all weights close, a resumed training like one without a break."""
    alone, divided, again = (found.losses(kind, out) for out in ("alone", "divided", "divided again"))
    assert divided == pytest.approx(alone, abs=1e-5) and len(alone) == found.changes["max_steps"]
    assert again == pytest.approx(divided, abs=1e-6)
    validated = found.losses(kind, "alone", "validation.jsonl")
    assert len(validated) == (found.changes["validate_every"] is not None) * -(-len(alone) // 10)
    assert found.losses(kind, "divided", "validation.jsonl") == pytest.approx(validated, abs=1e-5)
    one, parts = (found.place / kind / out for out in ("alone", "divided"))
    files = [file.relative_to(one) for file in one.glob("[am][do][ad][pe]*/*") if file.is_file()]
    assert sorted(str(file) for file in files) == sorted(
        str(file.relative_to(parts)) for file in parts.glob("[am][do][ad][pe]*/*")
    )
    for file in files:
        if file.suffix == ".safetensors":
            saved, wanted = load_file(parts / file), load_file(one / file)
            assert saved.keys() == wanted.keys()
            assert all((saved[name] - wanted[name]).abs().max() < 1e-4 for name in wanted)
        else:
            assert (parts / file).read_bytes() == (one / file).read_bytes(), file
    checkpoints = sorted((parts / "checkpoints").glob("checkpoint-*"))
    assert checkpoints and all(is_complete(checkpoint) for checkpoint in checkpoints)


@pytest.mark.end_to_end
@pytest.mark.parametrize("kind", ["sft full", "sft lora"])
def test_two_ranks_that_divide_each_matrix_train_as_one(two: Trainings, kind: str) -> None:
    agree(two, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "tied", "dpo", "kto"])
def test_every_kind_of_training_and_model_that_is_offered(more: Trainings, kind: str) -> None:
    agree(more, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_reference_is_scored_by_ranks_in_groups(more: Trainings, kind: str) -> None:
    from datasets import load_from_disk

    divided = load_from_disk(str(more.place / kind / "reference" / "train"))
    alone = load_from_disk(str(more.inputs[kind]["reference"] / "train"))
    for column in alone.column_names:
        assert divided[column] == pytest.approx(alone[column], abs=1e-4), column


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft full", "sft lora"])
def test_replicas_of_shards_of_pairs_train_as_one(eight: Trainings, kind: str) -> None:
    agree(eight, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft full", "sft lora", "tied"])
def test_two_groups_of_two_ranks_train_as_one(four: Trainings, kind: str) -> None:
    agree(four, kind)


PAIR = ("launch=cpu_ranks", "launch.processes=2", "launch.tensor_parallel=2", "stages.sft.checkpoint_every=5")


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_next_run_ends_as_one_rank_does(smoke: Finished, tmp_path: Path) -> None:
    """The command a user gives: one of the pair dies behind a checkpoint; then training, evaluation and verdict."""
    command = [sys.executable, "-m", "pipeline", "+experiment=smoke", *PAIR, f"outputs={tmp_path}"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(tmp_path.glob("artifacts/sft.train/*/checkpoints/checkpoint-*/complete.json")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.02)
    family = psutil.Process(run.pid).children(recursive=True)
    rank = next(each for each in family if each.environ().get("RANK") == "1" and "pipeline.worker" in each.cmdline())
    rank.kill()
    _, told = run.communicate(timeout=120)
    assert run.returncode == 4 and told.startswith("error: sft/train: rank 1 (process"), told
    again = run_pipeline(tmp_path, "+experiment=smoke", *PAIR)
    assert again.code == 0, again.out + again.err
    assert [stage["outcome"] for stage in again.report["stages"] if stage["name"] == "sft/train"] == ["resumed"]
    steps = [read_log(each.artifact("sft/train") / "steps.jsonl") for each in (smoke, again)]
    alone, divided = ([line["loss"] for line in log] for log in steps)
    assert divided == pytest.approx(alone, abs=1e-5)
    scores = [each.report["evaluation"]["models"]["sft"]["perplexity/sample"] for each in (smoke, again)]
    assert scores[1]["bits_per_byte"] == pytest.approx(scores[0]["bits_per_byte"], abs=1e-4)


def test_heads_of_a_model_that_comes_later_are_told_by_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GROUPS[0], "8")
    with pytest.raises(
        StageFailed, match="launch.tensor_parallel 8: the model has 4 num_attention_heads, which it must"
    ):
        refuse_undivided_heads({"num_attention_heads": 4, "num_key_value_heads": 4})
    with pytest.raises(StageFailed, match=r"the model has 2 num_key_value_heads, which it must divide; .* of 2 \(2\)"):
        refuse_undivided_heads({"text_config": {"num_attention_heads": 8, "num_key_value_heads": 2}})

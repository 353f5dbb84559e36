"""Ranks that divide matrices train as one rank does: losses, checkpoints, weights, validation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from data_prep.rows import write_rows
from pipeline.training.checkpoints import is_complete
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

    def in_groups(self, ranks: int, tensor: int) -> None:
        work = []
        for kind in self.kinds:
            inputs = {name: str(path) for name, path in self.inputs[kind].items()}
            each = {"kind": kind, "inputs": inputs, "changes": self.changes}
            first = str(self.place / kind / "divided")
            work += [{**each, "out": first}, {**each, "out": f"{first} again", "first": first, "step": 7}]
        (self.place / "work.json").write_text(json.dumps(work), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command += ["-m", "tests.engine.divided_ranks", str(self.place / "work.json")]
        told = {"PROVETUNE_TENSOR_PARALLEL": str(tensor), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **told}, timeout=900, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]

    def losses(self, kind: str, out: str, log: str = "steps.jsonl") -> list[float]:
        text = (self.place / kind / out / log).read_text(encoding="utf-8")
        return [json.loads(line)["loss"] for line in text.splitlines()]


def trained(request: pytest.FixtureRequest, ranks: int, kinds: list[str], **changes: Any) -> Trainings:
    place = request.getfixturevalue("tmp_path_factory").mktemp(f"ranks{ranks}")
    found = Trainings(place, kinds, SETTINGS | changes)
    found.alone()
    found.in_groups(ranks, 2)
    return found


@pytest.fixture(scope="module")
def two(request: pytest.FixtureRequest) -> Trainings:
    return trained(request, 2, ["sft full", "sft lora", "own", "tied"], max_steps=20)


@pytest.fixture(scope="module")
def four(request: pytest.FixtureRequest) -> Trainings:
    """Two groups of two: over the groups the weights lie in shards."""
    return trained(request, 4, ["sft full", "sft lora", "tied"], max_steps=12)


def agree(found: Trainings, kind: str) -> None:
    """Losses within 1e-5, all weights close, a resumed training like one without a break."""
    alone, divided, again = (found.losses(kind, out) for out in ("alone", "divided", "divided again"))
    assert divided == pytest.approx(alone, abs=1e-5) and len(alone) == found.changes["max_steps"]
    assert again == pytest.approx(divided, abs=1e-6)
    validated = found.losses(kind, "alone", "validation.jsonl")
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
@pytest.mark.parametrize("kind", ["sft full", "sft lora", "own", "tied"])
def test_two_ranks_that_divide_each_matrix_train_as_one(two: Trainings, kind: str) -> None:
    agree(two, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft full", "sft lora", "tied"])
def test_two_groups_of_two_ranks_train_as_one(four: Trainings, kind: str) -> None:
    agree(four, kind)

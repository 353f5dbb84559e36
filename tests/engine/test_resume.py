"""`kill -9` at any moment, the same command again: the losses and the adapter equal those of an undisturbed run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline

TRAINING = ["+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=45", "stages.sft.checkpoint_every=6"]

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    finished = run_pipeline(tmp_path_factory.mktemp("undisturbed"), *TRAINING)
    assert finished.code == 0, finished.err
    return finished


def train_folder(outputs: Path) -> Path | None:
    return next((outputs / "artifacts" / "sft.train").glob("*/"), None)


def kill_when(outputs: Path, due: Callable[[], bool], whole_group: bool) -> bool:
    """Start the run, kill it with -9 as soon as `due`; False when it ended before."""
    command = [sys.executable, "-m", "pipeline", *TRAINING, f"outputs={outputs}"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None:
        if due():
            if whole_group:
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
            child.wait()
            return True
        time.sleep(0.0005)
    return False


def assert_equal(resumed: Finished, undisturbed: Finished) -> None:
    assert resumed.code == 0, resumed.err
    for file in ("steps.jsonl", "validation.jsonl", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        mine, theirs = (run.artifact("sft/train") / file for run in (resumed, undisturbed))
        assert mine.read_bytes() == theirs.read_bytes(), file


def steps_logged(outputs: Path) -> int:
    folder = train_folder(outputs)
    log = folder / "checkpoints" / "steps.jsonl" if folder else None
    return log.read_bytes().count(b"\n") if log and log.exists() else 0


def inside_checkpoint(outputs: Path) -> bool:
    folder = train_folder(outputs)
    found = list((folder / "checkpoints").glob("checkpoint-[1-4]*")) if folder else []
    return any(not (checkpoint / "complete.json").exists() for checkpoint in found)


def trained_but_not_done(outputs: Path) -> bool:
    folder = train_folder(outputs)
    return bool(folder) and (folder / "adapter").exists() and not (folder / "done.json").exists()


def test_killed_in_the_middle_of_training(tmp_path: Path, undisturbed: Finished) -> None:
    """Only the parent is killed: its worker must end by itself, and must not disturb the second run."""
    assert kill_when(tmp_path, lambda: steps_logged(tmp_path) >= 20, whole_group=False)
    resumed = run_pipeline(tmp_path, *TRAINING)
    assert_equal(resumed, undisturbed)
    assert next(s for s in resumed.report["stages"] if s["name"] == "sft/train")["outcome"] == "resumed"


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize("moment", ["inside a checkpoint", "before done.json"])
def test_killed_at_the_worst_moments(tmp_path: Path, undisturbed: Finished, moment: str, whole_group: bool) -> None:
    due = inside_checkpoint if moment == "inside a checkpoint" else trained_but_not_done
    assert kill_when(tmp_path, lambda: due(tmp_path), whole_group)
    if moment == "inside a checkpoint" and whole_group:
        assert inside_checkpoint(tmp_path)  # the kill really fell into the write
    assert_equal(run_pipeline(tmp_path, *TRAINING), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random(tmp_path: Path, undisturbed: Finished, seed: int) -> None:
    """Twice, at random times: also while data, model or rows are being made."""
    draw = random.Random(seed)
    for _kill in range(2):
        deadline = time.monotonic() + draw.uniform(0.5, 9)
        kill_when(tmp_path, lambda deadline=deadline: time.monotonic() > deadline, draw.random() < 0.5)
    assert_equal(run_pipeline(tmp_path, *TRAINING), undisturbed)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, undisturbed: Finished) -> None:
    assert kill_when(tmp_path, lambda: steps_logged(tmp_path) >= 20, whole_group=True)
    folder = train_folder(tmp_path)
    assert folder is not None
    newest = max((folder / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    file = newest / "optimizer.pt"
    with contextlib.suppress(FileNotFoundError):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert_equal(run_pipeline(tmp_path, *TRAINING), undisturbed)

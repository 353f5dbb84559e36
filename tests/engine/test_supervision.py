"""Ranks under supervision: who hangs or is slow is named, and a signal ends a training at a checkpoint."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline import heartbeat
from pipeline.cli import compose_open, plain_values
from pipeline.config import RunConfig, validate
from pipeline.errors import StageFailed
from pipeline.heartbeat import SETTLED_STEPS, Heart, Hearts, last_lines
from pipeline.progress import EVENTS, EventReader, EventWriter
from pipeline.supervise import end_of_ranks, follow
from tests.conftest import Finished, run_pipeline
from tests.engine.test_launch import LONG, TWO, Training, alive

LIMIT = 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


class Ranks:
    """Hearts without their threads."""

    def __init__(self, logs: Path, count: int = 2):
        logs.mkdir(exist_ok=True)
        self.hearts = [Heart(logs, rank) for rank in range(count)]

    def beat(self, *ranks: int) -> None:
        for rank in ranks:
            self.hearts[rank]._beat()


def test_a_silent_rank_is_warned_of_and_then_named(tmp_path: Path, clock: list[float]) -> None:
    ranks, parent = Ranks(tmp_path), Hearts(tmp_path, 2, LIMIT)
    for step in range(3):
        for rank in ranks.hearts:
            rank.moved("forward and backward", step)
        ranks.beat(0, 1)
        clock[0] += 1
        assert parent.hung() is None and not list(parent.warnings())
    ranks.beat(0)
    clock[0] += 1
    assert parent.hung() is None
    (warning,) = parent.warnings()
    assert warning.startswith(f"rank 1 (process {os.getpid()} on ") and "given no sign of life for 1 s" in warning
    assert not list(parent.warnings()), "said once"
    ranks.beat(0)
    clock[0] += 1
    found = parent.hung()
    assert found is not None and found[0] == 1
    expected = "has given no sign of life for 2 s (launch.hang_timeout), last seen at step 2, forward and backward"
    assert expected in found[1]


@pytest.mark.parametrize(
    ("places", "rank", "expected"),
    [
        (
            [("update", 4), ("between steps", 4)],
            1,
            "has not moved for 2 s (launch.hang_timeout), at step 4, between st",
        ),
        ([("forward and backward", 4), ("between steps", 5)], 0, "at step 4, forward and backward, behind the others"),
        ([("start", 0), ("between steps", 0)], 0, "at step 0, start, behind the others"),
        (
            [("update", 4), ("update", 4)],
            None,
            "no rank has moved for 2 s (launch.hang_timeout), all at step 4, update",
        ),
    ],
)
def test_when_all_wait_the_one_behind_is_named(
    tmp_path: Path, clock: list[float], places: list[tuple[str, int]], rank: int | None, expected: str
) -> None:
    ranks, parent = Ranks(tmp_path), Hearts(tmp_path, 2, LIMIT)
    for heart, place in zip(ranks.hearts, places, strict=True):
        heart.moved(*place)
    found = None
    for _ in range(3):
        assert found is None
        ranks.beat(0, 1)
        found = parent.hung()
        clock[0] += 1
    ranks.beat(0, 1)
    found = found or parent.hung()
    assert found is not None and found[0] == rank and expected in found[1]


@pytest.mark.parametrize("phase", ["start", "end"])
def test_loading_and_saving_may_take_their_time(tmp_path: Path, clock: list[float], phase: str) -> None:
    ranks, parent = Ranks(tmp_path), Hearts(tmp_path, 2, LIMIT)
    for _ in range(6):
        for heart in ranks.hearts:
            heart.moved(phase, 0)
        ranks.beat(0, 1)
        assert parent.hung() is None
        clock[0] += 1


def test_what_a_rank_tells_otherwise_is_progress_too(tmp_path: Path, clock: list[float]) -> None:
    """A validation of an hour moves no step, but counts its rows."""
    ranks, parent = Ranks(tmp_path), Hearts(tmp_path, 2, LIMIT)
    for _ in range(6):
        for heart in ranks.hearts:
            heart.moved("between steps", 7)
        ranks.beat(0, 1)
        parent.event()
        assert parent.hung() is None
        clock[0] += 1


def test_hearts_of_an_earlier_try_say_nothing(tmp_path: Path, clock: list[float]) -> None:
    Ranks(tmp_path).beat(0, 1)
    parent = Hearts(tmp_path, 2, LIMIT)
    clock[0] += 10
    assert parent.hung() is None and not parent.training and not list(parent.warnings())


def test_the_slow_rank_is_named_once_and_kept(tmp_path: Path, clock: list[float]) -> None:
    ranks, parent = Ranks(tmp_path, 4), Hearts(tmp_path, 4, LIMIT)
    found: list[str] = []
    for step in range(SETTLED_STEPS):
        for rank, heart in enumerate(ranks.hearts):
            heart.worked(0.9 if rank == 2 else 0.3)
        ranks.beat(0, 1, 2, 3)
        clock[0] += 1
        parent.hung()
        found = list(parent.warnings())
        assert bool(found) == (step == SETTLED_STEPS - 1)
    assert re.search(
        r"rank 2 .* is slow: 0.90 s of its own work per step, the others 0.30 s; all wait for it", found[0]
    )
    assert parent.slow == {"slow_rank": 2.0, "slow_rank_ratio": 3.0}
    assert not list(parent.warnings())


def test_even_ranks_are_not_called_slow(tmp_path: Path, clock: list[float]) -> None:
    ranks, parent = Ranks(tmp_path), Hearts(tmp_path, 2, LIMIT)
    for _ in range(2 * SETTLED_STEPS):
        ranks.hearts[0].worked(0.30)
        ranks.hearts[1].worked(0.40)
    ranks.beat(0, 1)
    clock[0] += 1
    assert parent.hung() is None and not list(parent.warnings()) and not parent.slow


def test_the_last_lines_of_a_rank(tmp_path: Path) -> None:
    assert last_lines(tmp_path, 3) == []
    (tmp_path / "rank3.log").write_text("".join(f"line {n}\n" for n in range(5000)), encoding="utf-8")
    assert last_lines(tmp_path, 3, 2) == ["line 4998", "line 4999"]


TORCHRUN = "Root Cause (first observed failure):\n[0]:\n  rank      : 1 (local_rank: 1)\n  exitcode  : -9 (pid: 4711)\n"


def test_a_dead_rank_is_named_and_its_last_lines_are_shown(tmp_path: Path) -> None:
    """By torchrun's account, also where the other rank was the first to say that something is wrong."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "launcher.log").write_text(TORCHRUN, encoding="utf-8")
    (logs / "rank1.log").write_text("step 7\nstep 8\n", encoding="utf-8")
    events, told = EventReader(logs / EVENTS), list[dict]()
    writer = EventWriter(logs / EVENTS)
    writer.send("failed", rank=0, error="RuntimeError", message="Connection closed by peer", code=4)
    writer.close()
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], text=True)
    child.wait()
    with pytest.raises(StageFailed, match=r"rank 1 \(process 4711\) was killed by signal 9.*; the others were stopped"):
        follow(child, tmp_path, events, 2, told.append, end_of_ranks, 60, patient=True)
    assert [event["message"] for event in told if event["event"] == "log"] == ["rank 1: step 7", "rank 1: step 8"]


@pytest.fixture
def prepared(copied: Path) -> Path:
    """Outputs in which everything but the training is there."""
    shutil.rmtree(copied / "artifacts" / "sft.train")
    return copied


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_rank_is_named_and_everything_ends(prepared: Path, victim: int) -> None:
    training = Training(prepared, *TWO, "launch.hang_timeout=15")
    rank = next(child for child in training.ranks() if child.environ()["RANK"] == str(victim))
    rank.suspend()
    out, err = training.process.communicate(timeout=120)
    assert training.process.returncode == 4, out + err
    assert err.startswith(f"error: sft/train: rank {victim} (process {rank.pid} on "), err
    assert "has given no sign of life for 15 s (launch.hang_timeout), last seen at step " in err
    assert err.count("\n") == 1 and "the others were stopped (logs: " in err
    assert f"! sft/train: rank {victim} (process {rank.pid} on " in out, "a warning comes before"
    assert not alive(training.survivors()), "not even the stopped one is left"
    (logs,) = prepared.glob("artifacts/sft.train/*/logs")
    assert {"rank0.log", "rank1.log", "launcher.log"} <= {file.name for file in logs.iterdir()}


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_frozen_single_process_is_named(prepared: Path) -> None:
    training = Training(prepared, "launch.hang_timeout=15")
    worker = training.worker()
    worker.suspend()
    _, err = training.process.communicate(timeout=120)
    assert training.process.returncode == 4
    assert err.startswith(f"error: sft/train: rank 0 (process {worker.pid} on "), err
    assert not alive(training.survivors())


def losses(outputs: Path) -> list[tuple[int, float]]:
    (file,) = (outputs / "artifacts" / "sft.train").glob("*/steps.jsonl")
    return [(line["step"], line["loss"]) for line in map(json.loads, file.read_text(encoding="utf-8").splitlines())]


@pytest.fixture(scope="module")
def undisturbed(smoke: Finished, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[tuple[int, float]]]:
    """The losses of a run that nobody disturbs, made once per choice of overrides."""

    @functools.cache
    def run(*overrides: str) -> list[tuple[int, float]]:
        outputs = Path(shutil.copytree(smoke.outputs, tmp_path_factory.mktemp("whole") / "outputs", symlinks=True))
        shutil.rmtree(outputs / "artifacts" / "sft.train")
        done = run_pipeline(outputs, *LONG, *overrides)
        assert done.code == 0, done.out + done.err
        return losses(outputs)

    return run


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("number", "launch", "to_all"),
    [
        (signal.SIGTERM, (), False),
        (signal.SIGUSR1, (), True),
        (signal.SIGUSR1, TWO, False),
        (signal.SIGTERM, TWO, True),
    ],
    ids=["TERM, one process", "USR1 to the group", "USR1, two ranks", "TERM to the group of two ranks"],
)
def test_a_signal_ends_a_training_at_a_checkpoint_and_nothing_is_lost(
    prepared: Path, undisturbed: Callable[..., list], number: signal.Signals, launch: tuple[str, ...], to_all: bool
) -> None:
    """The checkpoint is of the step of the signal, not of the cadence; and the end is that of an undisturbed run."""
    short = (*launch, "stages.sft.max_steps=60", "stages.sft.checkpoint_every=1000")
    training = Training(prepared, *short)
    training.family = psutil.Process(training.process.pid).children(recursive=True)
    (os.killpg if to_all else os.kill)(training.process.pid, number)
    out, err = training.process.communicate(timeout=180)
    assert training.process.returncode == 75, out + err
    told = rf"error: sft/train: stopped by {number.name} with a checkpoint of step (\d+); the same command continues"
    found = re.match(told, err)
    assert found and err.count("\n") == 1, err
    assert not alive(training.survivors())
    assert list(prepared.glob(f"artifacts/sft.train/*/checkpoints/checkpoint-{found[1]}/complete.json"))
    again = run_pipeline(prepared, *LONG, *short)
    assert again.code == 0 and "resumed" in again.out, again.out + again.err
    assert losses(prepared) == undisturbed(*short)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_signal_before_the_first_step_ends_the_run_at_once(tmp_path: Path) -> None:

    command = [sys.executable, "-m", "pipeline", *LONG, f"outputs={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("runs/*/manifest.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75 and "stopped by SIGTERM" in err and err.count("\n") == 1, err
    assert not alive(psutil.wait_procs(family, timeout=10)[1])


def test_the_limit_is_a_positive_number() -> None:
    with pytest.raises(Exception, match=r"launch.hang_timeout: 0 is not allowed"):
        validate(RunConfig, plain_values(compose_open(["+experiment=smoke", "launch.hang_timeout=0"])))

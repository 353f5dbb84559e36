"""A rank that is slow for real: one of two is stopped and let go in pulses, and the run names it."""

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.engine.test_launch import TWO, Training

STOPPED, RUNNING = 0.12, 0.04
"""Seconds: the rank gets a quarter of its core."""

WORK = (
    *("model.scratch.hidden_size=256", "model.scratch.intermediate_size=512", "model.scratch.layers=4"),
    *("stages.sft.batch_size=32", "stages.sft.max_steps=40"),
)
"""A forward pass of a tenth of a second: of shorter ones nobody is called slow (heartbeat.SLOW_SECONDS)."""


@contextlib.contextmanager
def slowed(process: psutil.Process) -> Iterator[None]:
    """SIGSTOP and SIGCONT in turn, for the time of a block."""
    over = threading.Event()

    def pulse() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not over.wait(RUNNING):
                process.suspend()
                over.wait(STOPPED)
                process.resume()

    thread = threading.Thread(target=pulse, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("slow", [0, 1])
def test_a_rank_that_gets_a_quarter_of_its_core_is_named(copied: Path, slow: int) -> None:
    shutil.rmtree(copied / "artifacts" / "sft.train")
    training = Training(copied, *TWO, *WORK)
    rank = next(child for child in training.ranks() if child.environ()["RANK"] == str(slow))
    with slowed(rank):
        out, err = training.process.communicate(timeout=400)
    assert training.process.returncode == 0, out + err
    told = rf"! sft/train: rank {slow} \(process {rank.pid} on .+\) is slow: (\d+\.\d+) s of its own work per"
    assert (found := re.search(told, out)) and float(found[1]) > 0.05, out
    (file,) = copied.glob("artifacts/sft.train/*/metrics.json")
    metrics = json.loads(file.read_text(encoding="utf-8"))
    assert metrics["slow_rank"] == slow and metrics["slow_rank_ratio"] >= 1.5, metrics

"""`kill -9` in the middle of a preference training, the same command again: as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline
from tests.engine.preference_rows import overrides, pairs, write_rows

pytestmark = pytest.mark.end_to_end

FILES = ("steps.jsonl", "validation.jsonl", "adapter/adapter_model.safetensors", "adapter/adapter_config.json")
STEPS = 60


def command(file: Path) -> list[str]:
    settings = [f"stages.dpo.max_steps={STEPS}", "stages.dpo.checkpoint_every=6"]
    return [*overrides(file, validate_every="8"), *settings]


def folder_of(outputs: Path, kind: str) -> Path | None:
    return next((outputs / "artifacts" / kind).glob("*/"), None)


def steps_logged(outputs: Path) -> int:
    folder = folder_of(outputs, "dpo.train")
    log = folder / "checkpoints" / "steps.jsonl" if folder else None
    return log.read_bytes().count(b"\n") if log and log.exists() else 0


def killed_after(outputs: Path, arguments: list[str], steps: int) -> bool:
    """Start the run and kill it, worker and all, once so many steps are logged; False when it ended before."""
    line = [sys.executable, "-m", "pipeline", *arguments, f"outputs={outputs}"]
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None:
        if steps_logged(outputs) >= steps:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return True
        time.sleep(0.0005)
    return False


def outcome(run: Finished, name: str) -> str:
    return next(stage for stage in run.report["stages"] if stage["name"] == name)["outcome"]


def test_killed_in_the_middle_and_resumed_equals_an_undisturbed_run(tmp_path: Path) -> None:
    """Losses, rewards, validation and adapter, byte by byte; the reference is not computed again."""
    arguments = command(write_rows(tmp_path / "pairs.jsonl", pairs()))
    undisturbed = run_pipeline(tmp_path / "whole", *arguments)
    assert undisturbed.code == 0, undisturbed.out + undisturbed.err
    assert killed_after(tmp_path / "killed", arguments, 20)
    resumed = run_pipeline(tmp_path / "killed", *arguments)
    assert resumed.code == 0, resumed.out + resumed.err
    assert outcome(resumed, "dpo/train") == "resumed" and outcome(resumed, "dpo/reference") == "cached"
    for file in FILES:
        mine, theirs = (run.artifact("dpo/train") / file for run in (resumed, undisturbed))
        assert mine.read_bytes() == theirs.read_bytes(), file

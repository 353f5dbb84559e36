"""`kill -9` inside a full fine-tuning, a QLoRA and a pretraining of one run: it ends as an undisturbed one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline

pytestmark = pytest.mark.end_to_end

SHARED = "from: base, dataset: sample, max_steps: 30, checkpoint_every: 6, batch_size: 4, max_length: 192"
STAGES = {
    "full": "kind: sft, adapter: {kind: none}, learning_rate: 1e-3",
    "quantised": "kind: sft, adapter: {kind: qlora, r: 4}, learning_rate: 1e-2",
    "passages": "kind: pretrain, rows: all, learning_rate: 1e-3",
}
TRAINING = [
    "+experiment=smoke",
    f"run=[{','.join(STAGES)}]",
    *(f"stages.{name}={{{settings}, {SHARED}}}" for name, settings in STAGES.items()),
]


def killed_inside(outputs: Path, number: int) -> bool:
    """Start the run and kill it, worker and all, after the first checkpoint of its training of that number."""
    line = [sys.executable, "-m", "pipeline", *TRAINING, f"outputs={outputs}"]
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None:
        begun = [file.parent for file in outputs.glob("artifacts/*.train/*/stage.yaml")]
        logs = [folder / "checkpoints" / "steps.jsonl" for folder in begun if not (folder / "done.json").exists()]
        steps = sum(log.read_bytes().count(b"\n") for log in logs if log.exists())  # of the one that runs
        if len(begun) == number and 14 <= steps < 30:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return True
        time.sleep(0.0005)
    return False


def trained(run: Finished, name: str) -> dict[str, bytes]:
    """What a training leaves: losses, learning rates and gradient norms by step, and its weights."""
    folder = run.artifact(f"{name}/train")
    [weights] = folder.glob("*/*model*.safetensors")
    return {"steps": (folder / "steps.jsonl").read_bytes(), "weights": weights.read_bytes()}


@pytest.mark.slow
def test_each_training_killed_once_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Byte by byte; the optimizer's states and the order of rows are then those of an undisturbed run as well."""
    undisturbed = run_pipeline(tmp_path / "whole", *TRAINING)
    assert undisturbed.code == 0, undisturbed.out + undisturbed.err
    for number, name in enumerate(STAGES, start=1):
        assert killed_inside(tmp_path / "killed", number), name
    resumed = run_pipeline(tmp_path / "killed", *TRAINING)
    assert resumed.code == 0, resumed.out + resumed.err
    for name in STAGES:
        mine, theirs = trained(resumed, name), trained(undisturbed, name)
        assert mine["steps"] == theirs["steps"] and mine["steps"].count(b"\n") == 30, name
        assert mine["weights"] == theirs["weights"], name

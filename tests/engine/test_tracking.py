"""Trackers follow the training under the run's id, and nothing that they do breaks or changes it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback

from pipeline import tracking
from pipeline.artifacts import file_sha256
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.reproduce import pinned
from pipeline.tracking import TRACKING, TrackingConfig, refuse_missing, told_to_workers, tracked
from pipeline.training.trackers import Guarded, trackers

FEW = ("stages.sft.max_steps=4", "stages.sft.warmup_steps=0", "stages.sft.validate_every=2", "run=[filter,sft]")


def run(outputs: Path, *overrides: str, **variables: str) -> dict[str, Any]:
    """The report of a short training, in the environment with some variables more."""
    command = [sys.executable, "-m", "pipeline", "+experiment=smoke", f"outputs={outputs}", *FEW, *overrides]
    environment = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((outputs / "runs" / "latest" / "report.json").read_text("utf-8"))


def adapter_of(outputs: Path, report: dict[str, Any]) -> Path:
    stage = next(stage for stage in report["stages"] if stage["name"] == "sft/train")
    return outputs / stage["artifact"]


@pytest.mark.end_to_end
def test_local_trackers_hold_every_loss_under_the_runs_id(copied: Path) -> None:
    """Oracle: the trackers' own readers. Then the same training with a tracker that cannot work: the same weights."""
    pytest.importorskip("tensorboard")
    mlflow = pytest.importorskip("mlflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = run(copied, "tracking.report_to=[tensorboard,mlflow]")
    steps = {line["step"]: line["loss"] for line in report["training"]["sft"]["steps"]}
    name = f"{report['run']['id']}/sft"
    events = EventAccumulator(str(copied / "tracking" / "tensorboard" / name)).Reload()
    assert {each.step: each.value for each in events.Scalars("train/loss")} == pytest.approx(steps)
    measured = {line["step"]: line["loss"] for line in report["training"]["sft"]["validation"]}
    assert {each.step: each.value for each in events.Scalars("eval/loss")} == pytest.approx(measured)

    client = mlflow.MlflowClient(f"sqlite:///{copied / 'tracking' / 'mlflow' / 'mlflow.db'}")
    linked = {each["tracker"]: each for each in report["training"]["sft"]["tracking"]}
    found = client.get_run(linked["mlflow"]["id"])
    assert found.info.run_name == name == linked["tensorboard"]["name"] and found.info.status == "FINISHED"
    assert {each.step: each.value for each in client.get_metric_history(found.info.run_id, "loss")} == steps
    page = (copied / "runs" / "latest" / "report.html").read_text("utf-8")
    assert name in page and found.info.run_id in page

    artifact = adapter_of(copied, report)
    weights = file_sha256(artifact / "adapter" / "adapter_model.safetensors")
    shutil.rmtree(artifact)
    again = run(copied, "tracking.report_to=[mlflow]", MLFLOW_TRACKING_URI="nonsense://user:secretword@nowhere")
    assert adapter_of(copied, again) == artifact
    assert file_sha256(artifact / "adapter" / "adapter_model.safetensors") == weights
    warning = next(line for line in again["warnings"] if "stopped tracking" in line)
    assert warning.startswith("sft: mlflow stopped tracking (") and "the training itself is whole" in warning
    assert "secretword" not in json.dumps(again)


class Breaking(TrainerCallback):
    """Raises at one event, and counts the events that it gets."""

    def __init__(self, where: str, seen: list[str]):
        self._where, self._seen = where, seen

    def _event(self, event: str) -> None:
        self._seen.append(event)
        if event == self._where:
            raise ConnectionError("no route to\n https://user:hunter22222@host/x")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._event("begin")

    def on_log(self, *_: Any, **__: Any) -> None:
        self._event("log")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._event("end")


def follow(guard: Guarded, is_first: bool = True) -> None:
    """The events of a training of two steps."""
    args, state = SimpleNamespace(run_name="r/sft"), SimpleNamespace(is_world_process_zero=is_first, global_step=1)
    for event in ("on_train_begin", "on_log", "on_step_end", "on_log", "on_train_end"):
        assert getattr(guard, event)(args, state, None, logs={"loss": 1.0}) is None


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("where", "events"),
    [("begin", ["begin"]), ("log", ["begin", "log"]), ("end", ["begin", "log", "log", "end"])],
)
def test_a_tracker_that_raises_is_asked_no_more(where: str, events: list[str], artifact: Path) -> None:
    seen: list[str] = []
    follow(Guarded("tensorboard", lambda: Breaking(where, seen), artifact))
    assert seen == events
    told = tracked(artifact)
    assert told[-1] == {"tracker": "tensorboard", "error": "ConnectionError: no route to https://[secret]@host/x"}
    assert told[:-1] == ([] if where == "begin" else [{"tracker": "tensorboard", "name": "r/sft"}])


def test_a_tracker_that_cannot_be_made_is_noted(artifact: Path) -> None:
    def make() -> TrainerCallback:
        raise RuntimeError

    follow(Guarded("trackio", make, artifact))
    assert tracked(artifact) == [{"tracker": "trackio", "error": "RuntimeError"}]


def test_only_the_first_rank_tracks(artifact: Path) -> None:
    seen: list[str] = []
    follow(Guarded("tensorboard", lambda: Breaking("", seen), artifact), is_first=False)
    assert not seen and not tracked(artifact)


def test_a_validation_loss_reaches_the_tracker_once(artifact: Path) -> None:
    logged: list[dict[str, float]] = []

    class Keeping(TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:  # type: ignore[override]
            logged.append(logs)

    (artifact / "checkpoints").mkdir()
    file = artifact / "checkpoints" / "validation.jsonl"
    file.write_text('{"step": 1, "loss": 9.0}\n', "utf-8")  # before a resume: told already
    guard = Guarded("tensorboard", Keeping, artifact)
    args, state = SimpleNamespace(run_name="r/sft"), SimpleNamespace(is_world_process_zero=True, global_step=2)
    guard.on_train_begin(args, state, None)  # type: ignore[arg-type]
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 2, "loss": 3.0}\n')
    for _ in range(2):
        guard.on_step_end(args, state, None)  # type: ignore[arg-type]
    assert logged == [{"eval_loss": 3.0}]


def test_a_missing_package_is_one_line_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        refuse_missing(TrackingConfig(report_to=["wandb"]))
    assert str(caught.value) == (
        "tracking.report_to: wandb is not installed; pip install wandb, or leave it out of tracking.report_to=['wandb']"
    )
    refuse_missing(TrackingConfig())


def test_workers_are_told_only_while_the_run_lasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(TRACKING, '{"report_to": ["wandb"]}')  # of a run around this one
    with told_to_workers(TrackingConfig(), "r", tmp_path):
        assert trackers(tmp_path) == []
    with told_to_workers(TrackingConfig(report_to=["mlflow"], project="p"), "r", tmp_path):
        told = json.loads(os.environ[TRACKING])
    assert told == {"report_to": ["mlflow"], "project": "p", "run_id": "r", "folder": str(tmp_path / "tracking")}
    assert json.loads(os.environ[TRACKING])["report_to"] == ["wandb"]


def test_trackers_change_no_fingerprint_and_are_not_repeated() -> None:
    plain, followed = (
        validate(RunConfig, compose(["+experiment=smoke", *more])) for more in ([], ["tracking.report_to=[mlflow]"])
    )
    assert plain.stages == followed.stages
    manifest = {"config": followed.model_dump(mode="json", by_alias=True)}
    assert validate(RunConfig, pinned(manifest)).tracking == TrackingConfig()
    with pytest.raises(ConfigError, match="tracking.report_to.0: 'tensorbord' is not allowed: .*mean tensorboard"):
        validate(RunConfig, compose(["+experiment=smoke", "tracking.report_to=[tensorbord]"]))

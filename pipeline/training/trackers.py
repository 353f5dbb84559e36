"""The trackers of a training node: transformers' own callbacks, each behind a guard that no failure passes.

A training of hours must not end because a dashboard is full, slow or misconfigured: what a tracker raises is written
down, it is asked no more, and the report says so.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.secrets import redacted
from pipeline.tracking import RECORD, TRACKING
from pipeline.training.step_log import VALIDATION, read_log


def told() -> dict[str, Any]:
    """What the run asks of its trackers; empty where nothing is tracked."""
    return json.loads(os.environ.get(TRACKING, "{}"))


def run_names(out: Path) -> dict[str, Any]:
    """The arguments by which trackers name a run: `<run id>/<stage>`, so that either leads to the other."""
    asked = told()
    if not asked:
        return {}
    stage = yaml.safe_load((out / "stage.yaml").read_text(encoding="utf-8"))["name"].partition("/")[0]
    return {"run_name": f"{asked['run_id']}/{stage}", "project": asked["project"], "trackio_space_id": None}


def trackers(out: Path) -> list[TrainerCallback]:
    """The callbacks of the trackers that the run asks for, in an artifact's folder; the stores they need are set up."""
    from transformers.integrations import get_reporting_integration_callbacks

    asked = told()
    if not asked:
        return []
    for variable, value in _defaults(asked, run_names(out)["run_name"]).items():
        os.environ.setdefault(variable, value)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(asked["folder"]) / "tensorboard" / run_names(out)["run_name"])
    made = dict(zip(asked["report_to"], get_reporting_integration_callbacks(asked["report_to"]), strict=True))
    return [Guarded(name, tracker, out) for name, tracker in made.items()]


def _defaults(asked: Mapping[str, Any], name: str) -> dict[str, str]:
    """Settings of the trackers that a user's own environment variables override: local, offline, silent."""
    folder = Path(asked["folder"])
    for place in ("mlflow", "trackio", "wandb"):
        if place in asked["report_to"]:
            (folder / place).mkdir(parents=True, exist_ok=True)
    defaults = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": asked["project"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(folder / "trackio"),
        "WANDB_DIR": str(folder / "wandb"),
        "WANDB_PROJECT": asked["project"],
        "WANDB_RUN_GROUP": asked["run_id"],
    }
    if "WANDB_API_KEY" not in os.environ:
        defaults["WANDB_MODE"] = "offline"  # `wandb sync` sends it later
    return defaults


class Guarded(TrainerCallback):
    """Hands the trainer's events to a tracker until it raises; never raises itself. Rank 0 alone tracks."""

    def __init__(self, name: str, make: Callable[[], TrainerCallback], out: Path):
        self._name, self._make, self._out = name, make, out
        self._tracker: TrainerCallback | None = None
        self._validation = out / "checkpoints" / VALIDATION
        self._size, self._validated = self._length(), len(read_log(self._validation))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Open the tracker, and note under which name it keeps the run."""

        def begin() -> None:
            self._tracker = self._make()
            self._tracker.on_train_begin(args, state, control, **more)
            self._note(name=args.run_name, **_identity(self._name))

        if state.is_world_process_zero:
            self._guarded(begin)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """The losses of a step."""
        self._hand_on("on_log", args, state, control, more)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """A validation loss that was measured after this step: our own measurement, which the trainer does not log."""
        if self._tracker is None or self._length() == self._size:
            return
        self._size, measured = self._length(), read_log(self._validation)
        for line in measured[self._validated :]:
            logs = {f"eval_{key}": value for key, value in line.items() if key != "step"}
            self._hand_on("on_log", args, state, control, {**more, "logs": logs})
        self._validated = len(measured)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Close the tracker."""
        self._hand_on("on_train_end", args, state, control, more)
        if self._name == "wandb" and self._tracker is not None:
            self._guarded(_finish_wandb)  # its callback leaves the run open, and the next stage would go on in it

    def _length(self) -> int:
        return self._validation.stat().st_size if self._validation.exists() else 0

    def _hand_on(self, event: str, args: Any, state: Any, control: Any, more: Mapping[str, Any]) -> None:
        if self._tracker is not None:
            self._guarded(lambda: getattr(self._tracker, event)(args, state, control, **more))

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, it is the tracker's affair
            self._tracker = None
            text = " ".join(redacted(str(error)).split())[:300]
            self._note(error=f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _note(self, **facts: Any) -> None:
        line = json.dumps({"tracker": self._name, **{key: value for key, value in facts.items() if value}})
        try:
            with (self._out / "logs" / RECORD).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            print(f"{RECORD}: {error}: {line}", file=sys.stderr)


def _identity(name: str) -> dict[str, str | None]:
    """The id and address that an open tracker gives its run, where it gives them."""
    if name == "mlflow":
        import mlflow

        run = mlflow.active_run()
        return {"id": run.info.run_id if run else None}
    if name == "wandb":
        import wandb  # pyright: ignore[reportMissingImports]

        return {"id": wandb.run.id, "url": wandb.run.url} if wandb.run else {}
    return {}


def _finish_wandb() -> None:
    import wandb  # pyright: ignore[reportMissingImports]

    wandb.finish()

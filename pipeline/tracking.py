"""Which trackers see the training steps of a run, and how its workers are told.

Trackers are no part of a stage: a curve on a dashboard changes no result, so they stand outside every fingerprint.
What is local (tensorboard, mlflow, trackio, and wandb offline) lands under `outputs/tracking/`.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_prep.strict import StrictModel
from pipeline.errors import ConfigError

TRACKING = "PROVETUNE_TRACKING"
"""Environment variable: what a worker is told, as JSON; unset where nothing is tracked."""
FOLDER = "tracking"
"""Below the outputs folder: the stores of the local trackers, shared by all runs so that they can be compared."""
RECORD = "tracking.jsonl"
"""In an artifact's `logs/`: what each tracker calls the run, or why it stopped."""

Tracker = Literal["tensorboard", "mlflow", "trackio", "wandb"]


class TrackingConfig(StrictModel):
    """Trackers that follow the training steps, through transformers' `report_to` (outside every fingerprint)."""

    report_to: list[Tracker] = []
    """Any of `tensorboard`, `mlflow`, `trackio`, `wandb`; none needs an account. Their own environment variables
    (`MLFLOW_TRACKING_URI`, `WANDB_API_KEY`, `TRACKIO_DIR` …) lead elsewhere than `outputs/tracking/`."""
    project: str = Field(default="provetune", pattern=r"^[\w][\w .-]*$")
    """What the runs are grouped under: project or experiment of the tracker."""


def refuse_missing(tracking: TrackingConfig) -> None:
    """Raise ConfigError for a tracker whose package is not installed, before anything runs."""
    for tracker in tracking.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(
                f"tracking.report_to: {tracker} is not installed; pip install {tracker}, or leave it out of "
                f"tracking.report_to={[*tracking.report_to]}"
            )


@contextlib.contextmanager
def told_to_workers(tracking: TrackingConfig, run_id: str, outputs: Path) -> Iterator[None]:
    """While this lasts, the processes started from here track what they train under the run's id."""
    before = os.environ.pop(TRACKING, None)
    if tracking.report_to:
        folder = str((outputs / FOLDER).absolute())
        told: dict[str, Any] = {**tracking.model_dump(mode="json"), "run_id": run_id, "folder": folder}
        os.environ[TRACKING] = json.dumps(told)
    try:
        yield
    finally:
        os.environ.pop(TRACKING, None)
        if before is not None:
            os.environ[TRACKING] = before


def tracked(artifact: Path) -> list[dict[str, Any]]:
    """What the trackers of an artifact noted, a line each: `tracker` with `name`, `id`, `url`, or with `error`."""
    record = artifact / "logs" / RECORD
    return [json.loads(line) for line in record.read_text("utf-8").splitlines() if line] if record.exists() else []

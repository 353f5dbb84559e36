"""One job of a sweep, wherever it runs: never imports Hydra or torch. `run_job` must stay picklable.

outputs/sweeps/<name>/sweep.json              the jobs and how each ended, best first
outputs/sweeps/<name>/<number>/outcome.json   how it ended; its absence after the end says that it was killed
outputs/sweeps/<name>/<number>/failed.json    only of a failed job: what it was, why, where to look
"""

import contextlib
import hashlib
import json
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts import read_json, write_json
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError, Preempted, ProvetuneError, Pruned
from pipeline.pruning import TABLE

Status = Literal["ran", "cached", "planned", "failed", "lost", "stopped", "pruned"]


@dataclass(frozen=True)
class Job:
    """One point of a sweep."""

    number: int
    overrides: list[str]
    """As the user would write them for a single run."""
    config: dict[str, Any]
    """Composed, plain values."""
    folder: str
    """Its place below `outputs/sweeps`; absolute, because it may run elsewhere."""
    pruning: dict[str, Any] | None = None
    """Of a trial of a search: the `pipeline.pruning.Rule` that may end it."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    number: int
    overrides: list[str]
    status: Status
    code: int = 0
    """Exit code that a run alone would have had."""
    run: str | None = None
    """Name of the run's folder."""
    message: str | None = None
    """Why it failed."""
    values: list[float] = field(default_factory=list)
    """The optimised metrics, in the order of `optimise`."""
    seconds: float = 0.0


def name_of(config: RunConfig) -> str:
    """The run's folder of a job: the same configuration finds its own run again, whatever sweep it is in."""
    decisive = config.model_dump(mode="json", by_alias=True, exclude={"run_id", "outputs"})
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"{config.experiment or 'run'}-{digest[:10]}"


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a `Job` (as a dict: it crosses processes and machines) to an `Outcome`; nothing is raised but the end."""
    from pipeline.gpu_slots import gpu_slot

    point = Job(**job)
    folder, started = Path(point.folder), time.monotonic()
    writes = point.config.get("mode") != "plan"  # a plan leaves nothing behind
    if writes:
        (folder / "failed.json").unlink(missing_ok=True)
        (folder / "outcome.json").unlink(missing_ok=True)
        write_json(folder / "started.json", {"overrides": point.overrides})
    print(f"sweep: {' '.join(part.lstrip('+') for part in point.overrides)}", flush=True)
    try:
        config = _configured(point)
        if outcome := _finished(config, point):
            print(f"= run {config.run_id} is complete", flush=True)
            ended = outcome
        else:
            with gpu_slot(config), _rule_set(point.pruning):
                ended = _run(config, point)
    except Pruned as error:
        ended = Outcome(point.number, point.overrides, "pruned", message=str(error))
    except Preempted as error:  # left without an outcome: this job is not at its end
        print(str(error), flush=True)
        return asdict(Outcome(point.number, point.overrides, "stopped", error.exit_code, message=str(error)))
    except ProvetuneError as error:
        ended = _failure(point, str(error), error.exit_code)
    except Exception as error:  # a fault of the code itself: the other jobs still run
        traceback.print_exc()
        ended = _failure(point, f"{type(error).__name__}: {error}", 1)
    values = asdict(ended) | {"seconds": round(time.monotonic() - started, 3)}
    if writes and ended.status == "failed":
        write_json(folder / "failed.json", values)
    if writes:
        write_json(folder / "outcome.json", values)
    return values


@contextlib.contextmanager
def _rule_set(rule: Mapping[str, Any] | None) -> Iterator[None]:
    """The trainings of this job find the rule in their environment."""
    if rule is not None:
        os.environ[TABLE] = json.dumps(rule)
    try:
        yield
    finally:
        os.environ.pop(TABLE, None)


def is_complete(job: Job) -> bool:
    """Whether a job's run is complete and all of its artifacts are there."""
    try:
        return _finished(_configured(job), job) is not None
    except ProvetuneError:
        return False


def _configured(job: Job) -> RunConfig:
    config = validate(RunConfig, job.config)
    return config if config.run_id else config.model_copy(update={"run_id": name_of(config)})


def _finished(config: RunConfig, job: Job) -> Outcome | None:
    """A job whose run is complete and all of whose artifacts are still there needs no new report."""
    from pipeline.plan import make_plan

    folder = Path(config.outputs).expanduser() / "runs" / str(config.run_id)
    if config.mode == "plan" or not (folder / "report.json").exists():
        return None
    if not (folder / "manifest.json").exists() or any(step.state != "cached" for step in make_plan(config).steps):
        return None
    report, manifest = read_json(folder / "report.json"), read_json(folder / "manifest.json")
    if report["run"]["status"] != "complete" or manifest["config"] != config.model_dump(mode="json", by_alias=True):
        return None
    return Outcome(job.number, job.overrides, "cached", 0, config.run_id, values=_values(config, report))


def _run(config: RunConfig, job: Job) -> Outcome:
    from pipeline.run import run

    run(config, job.overrides)
    if config.mode == "plan":
        return Outcome(job.number, job.overrides, "planned")
    report = Path(config.outputs).expanduser() / "runs" / str(config.run_id) / "report.json"
    values = _values(config, read_json(report)) if report.exists() else []  # other nodes than the first write none
    return Outcome(job.number, job.overrides, "ran", 0, config.run_id, values=values)


def _values(config: RunConfig, report: Any) -> list[float]:
    try:
        return [objective.value(report) for objective in config.optimise]
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None


def _failure(job: Job, message: str, code: int) -> Outcome:
    return Outcome(job.number, job.overrides, "failed", code, message=message)


def lost(job: Job, how: str) -> Outcome:
    """A job that ended without a word: killed, cancelled, or its machine died. Leaves its `failed.json`."""
    outcome = Outcome(job.number, job.overrides, "lost", 4, message=how)
    write_json(Path(job.folder) / "failed.json", asdict(outcome))
    return outcome


def outcome_of(job: Job) -> Outcome | None:
    """What a job left behind, if it came to an end."""
    try:
        return Outcome(**read_json(Path(job.folder) / "outcome.json"))
    except (OSError, ValueError, TypeError):
        return None


def best_first(outcomes: Sequence[Outcome], directions: Sequence[str]) -> list[Outcome]:
    """Jobs with values by their first objective, then the others by number."""
    sign = -1.0 if directions and directions[0] == "maximize" else 1.0
    return sorted(outcomes, key=lambda one: (not one.values, sign * one.values[0] if one.values else 0, one.number))

"""One attempt at one task, the same in every engine: a private folder, the work, the receipt, one rename."""

import contextlib
import json
import os
import shutil
import socket
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.engines.receipts import read_receipt, write_receipt
from data_prep.errors import DataError

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",  # also Arrow's pool
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""So that as many processes as processors do not fight for them."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs for one task."""

    work: Callable[[Any, Path], Any]
    task: Any
    key: str
    folder: Path
    title: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def target(self) -> Path:
        """The folder that a finished task leaves."""
        return self.folder / self.task.name


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with a JSON result, with an `error` of one line, or the worker was `lost` (how it died)."""

    result: Any = None
    error: str | None = None
    trace: str = ""
    lost: str | None = None


def attempt(job: Job) -> Outcome:
    """Do one task; never raises but for what should end the process (Ctrl-C)."""
    found = read_receipt(job.target, job.key)
    if found and found.wrong is None:  # an attempt that was given up for lost came through
        return Outcome(found.result)
    unique = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    part = job.folder / f".{job.task.name}.{unique}.part"
    try:
        with _environment(job.secrets):
            part.mkdir(parents=True)
            return _settle(job, part, job.work(job.task, part))
    except DataError as error:
        return Outcome(error=_without_secrets(str(error), job.secrets))
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        told = f"{job.title}: task {job.task.name}: {type(error).__name__}{': ' if text else ''}{text}"
        advice = "; finished tasks are kept, the same command goes on from them"
        trace = _without_secrets(traceback.format_exc(), job.secrets)
        return Outcome(error=_without_secrets(told, job.secrets) + advice, trace=trace)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what ended workers left unfinished. No attempt may be under way."""
    for part in folder.glob(".*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _settle(job: Job, part: Path, result: Any) -> Outcome:
    receipt = write_receipt(part, job.key, result)
    if _without_secrets(receipt, job.secrets) != receipt:
        raise ValueError(f"the result holds the value of a secret ({', '.join(job.secrets)}); return something else")
    try:
        part.rename(job.target)
    except OSError:
        found = read_receipt(job.target, job.key)  # another attempt, given up for lost, may have come first
        if found is None or found.wrong is not None:
            raise
        return Outcome(found.result)
    return Outcome(json.loads(receipt)["result"])


@contextlib.contextmanager
def _environment(secrets: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the time of one attempt."""
    before = {name: os.environ.get(name) for name in secrets}
    os.environ.update(secrets)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _without_secrets(text: str, secrets: Mapping[str, str]) -> str:
    for value in filter(None, secrets.values()):
        text = text.replace(value, "***")
    return text

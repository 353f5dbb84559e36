"""Which GPUs a job of a sweep may use, when several jobs share a machine.

The rule: the GPUs that this process sees are cut into groups of as many as a job trains on (`launch.processes`, per
node); a job takes the first free group, and waits while none is free. A group is held by a file lock, so that a killed
job frees its GPUs at once. Within an allocation of Slurm or Ray the GPUs are the job's own already.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.config import RunConfig
from pipeline.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would list them; never imports torch."""
    from pipeline.provenance import gpus

    set_outside = os.environ.get(VISIBLE)
    if set_outside is not None:
        return [name.strip() for name in set_outside.split(",") if name.strip()]
    return [str(number) for number in range(len(gpus()))]


def groups(config: RunConfig) -> list[list[str]]:
    """The groups of GPUs that jobs like this one take in turn; none where there are no GPUs."""
    gpus = visible_gpus()
    wanted = config.launch.processes if config.launch.on_gpus else 1
    return [gpus[start : start + wanted] for start in range(0, len(gpus) - wanted + 1, wanted)]


@contextlib.contextmanager
def gpu_slot(config: RunConfig, folder: Path | None = None) -> Iterator[list[str]]:
    """Hold a group of GPUs for the time of a job; CUDA_VISIBLE_DEVICES names them meanwhile.

    Raises ConfigError where the machine has fewer than one job needs.
    """
    cpu = config.launch.kind == "cpu_ranks" or config.mode == "plan"
    if cpu or "SLURM_JOB_ID" in os.environ or "RAY_JOB_ID" in os.environ or not visible_gpus():
        yield []
        return
    choices = groups(config)
    if not choices:
        raise ConfigError(
            f"launch.processes: {config.launch.processes} GPUs are asked for, this machine shows {len(visible_gpus())}"
        )
    place = folder or Path(tempfile.gettempdir()) / f"provetune-gpus-{os.getuid()}"
    place.mkdir(parents=True, exist_ok=True)
    before = os.environ.get(VISIBLE)
    held, chosen = _take(choices, place)
    os.environ[VISIBLE] = ",".join(chosen)
    try:
        yield chosen
    finally:
        held.close()
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before


def _take(choices: list[list[str]], place: Path) -> tuple[IO[str], list[str]]:
    while True:
        for chosen in choices:
            file = (place / f"{'_'.join(chosen).replace('/', '_')}.lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file, chosen
            except BlockingIOError:
                file.close()
        time.sleep(0.5)

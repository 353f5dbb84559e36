"""The rows of an evaluation spread over processes: ranks that a launcher started, or tasks of a Ray cluster.

Who computes a share keeps its rows in files (`eval.shares`); who merges finds them there. Nothing is sent but numbers
about the shares, so that a process may die at any time, and any number of processes goes on from what is kept.
"""

import contextlib
import functools
import importlib
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from data_prep.engines.config import RayEngine
from data_prep.engines.engine import run_tasks
from data_prep.engines.ray_engine import VISIBLE_SECONDS, RayCrew
from data_prep.engines.receipts import NOT_IN_KEY
from data_prep.engines.versions import code_hash, release
from data_prep.errors import DataError
from data_prep.progress import Track
from eval.shares import Share

ROOT = Path(__file__).parents[3]
RECEIPTS = "shares"
SHARES_EACH = 2
"""Shares per processor of a cluster: a slow one leaves others something to do."""
LONGEST_WAIT = timedelta(days=30)
"""Ranks wait for the slowest share; one that dies or hangs is found by the parent."""


@dataclass(frozen=True)
class ShareTask:
    """One share as a task of Ray."""

    name: str
    kind: str
    config: str
    """JSON of the node's configuration."""
    inputs: tuple[tuple[str, str], ...] = field(metadata=NOT_IN_KEY)
    unfinished: str = field(metadata=NOT_IN_KEY)
    """The folder of the shares' files; it belongs to one artifact, whose fingerprint covers the inputs."""
    share: tuple[int, int]
    versions: tuple[tuple[str, str], ...] = field(metadata=NOT_IN_KEY)
    """What decides about numbers, as the parent has it; `run_tasks` compares what data_prep consists of."""


def run_share(task: ShareTask, out: Path) -> dict[str, Any]:
    """Compute a share on a node of the cluster. `out` keeps only the receipt: rows outlive a killed attempt."""
    from pipeline.stages import RUNNERS

    for name, there in task.versions:
        if (here := dict(versions_here()).get(name)) != there:
            raise DataError(
                f"spread.kind=ray: node {socket.gethostname()} has {name} {here}, this machine {there}; install the "
                "same versions on every node"
            )
    inputs = {label: Path(path) for label, path in task.inputs}
    stage = importlib.import_module(RUNNERS[task.kind])
    return stage.run_share(json.loads(task.config), inputs, Path(task.unfinished), Share(*task.share))


@functools.cache
def versions_here() -> tuple[tuple[str, str], ...]:
    """This code, and the libraries that compute."""
    own = tuple((f"code of {package}", code_hash(ROOT / package)) for package in ("eval", "pipeline"))
    return own + tuple((name, release(name)) for name in ("torch", "transformers", "peft"))


def over_ray(
    engine: RayEngine, kind: str, config: Mapping[str, Any], inputs: Mapping[str, Path], unfinished: Path, track: Track
) -> list[Any]:
    """What the shares of a node returned, all computed on a Ray cluster. DataError as `run_tasks`.

    Shares that are finished are not started again. Where the cluster has GPUs each share gets one, else one processor.
    """
    crew = RayCrew(engine, gpus=True)
    try:
        count = SHARES_EACH * crew.open(())
        paths = tuple((label, str(path.absolute())) for label, path in inputs.items())
        asked = json.dumps(dict(config), sort_keys=True)
        place, there = str(unfinished.absolute()), versions_here()
        tasks = [
            ShareTask(f"share-{index}-of-{count}", kind, asked, paths, place, (index, count), there)
            for index in range(count)
        ]
        done = run_tasks(crew, run_share, tasks, unfinished / RECEIPTS, version=kind, title="evaluate", track=track)
    finally:
        crew.close()
    return done.results


def share_of_rank() -> Share | None:
    """The share of this process where a launcher started several; it also takes the GPU that is its own."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return None
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Share(int(os.environ["RANK"]), count)


def gathered(result: Any, unfinished: Path) -> list[Any]:
    """What the shares of all ranks returned, once all of them have; every rank must call it.

    The first rank, who merges, then sees in `unfinished` what other machines wrote, also where a shared file system
    shows it late.
    """
    from torch import distributed

    written = {file.name: file.stat().st_size for file in unfinished.iterdir() if file.is_file()}
    # Over TCP also between GPUs: a few numbers, and no memory of theirs.
    distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, (result, written))
    merges = distributed.get_rank() == 0
    distributed.destroy_process_group()
    for _, files in found if merges else []:
        await_visible(unfinished, files)
    return [each for each, _ in found]


def await_visible(folder: Path, sizes: Mapping[str, int], seconds: float = VISIBLE_SECONDS) -> None:
    """Until files of these sizes are to be seen; what is not to be seen after `seconds` is computed again."""
    end = time.monotonic() + seconds
    for name, size in sizes.items():
        while time.monotonic() < end:
            os.listdir(folder)  # makes NFS look again
            with contextlib.suppress(FileNotFoundError):
                if (folder / name).stat().st_size >= size:
                    break
            time.sleep(0.1)

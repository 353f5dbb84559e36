"""Run many tasks, whatever the engine: results in task order, equal bytes, and a second start does only what is left.

with start_engine(config) as engine:
    finished = run_tasks(engine, measure_shard, tasks, folder, version=version, title="measure", track=track)
"""

import contextlib
import fcntl
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from data_prep.engines.attempt import Job, Outcome, sweep
from data_prep.engines.config import LocalEngine, RayEngine
from data_prep.engines.local import InlineCrew, LocalCrew
from data_prep.engines.receipts import read_receipt, task_key
from data_prep.errors import DataError
from data_prep.progress import Track, silent


class Task(Protocol):
    """One shard's work: a frozen dataclass that can be pickled and names its inputs (paths, byte ranges)."""

    @property
    def name(self) -> str:
        """Unique among the tasks of a folder, and fit for a file name, e.g. `measure-00012`."""
        ...


class Crew(Protocol):
    """The workers of an engine. Started with the first task; `index` is the caller's name for a task."""

    def open(self, secrets: Collection[str]) -> int:
        """Get ready; how many tasks are worked on at a time. Workers do not inherit the environment variables named."""
        ...

    def start(self, index: int, job: Job) -> None:
        """Hand a task to a free worker."""
        ...

    def finished(self) -> Iterable[tuple[int, Outcome]]:
        """Wait until tasks have ended; at least one."""
        ...

    def abandon(self, indexes: Iterable[int]) -> None:
        """End these tasks, which have been started, without an outcome."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Finished:
    """What all tasks gave."""

    results: list[Any]
    """What `work` returned, in the order of the tasks, as it is after a journey through JSON."""
    reused: int
    """How many tasks had been finished by an earlier start."""
    remade: dict[str, str]
    """Task → why what an earlier start had left of it was not used."""


T = TypeVar("T", bound=Task)
Work = Callable[[T, Path], Any]


@contextlib.contextmanager
def start_engine(config: LocalEngine | RayEngine) -> Iterator[Crew]:
    """The engine's workers for several `run_tasks`; they start with the first task and end with the context.

    Raises:
        DataError: Ray is not installed. (What else is wrong with a cluster is said when the first task starts.)
    """
    if isinstance(config, RayEngine):
        from data_prep.engines.ray_engine import RayCrew

        crew: Crew = RayCrew(config)
    else:
        crew = LocalCrew(config)
    try:
        yield crew
    finally:
        crew.close()


def run_tasks(
    engine: LocalEngine | RayEngine | Crew,
    work: Work[T],
    tasks: Sequence[T],
    folder: Path,
    *,
    version: str,
    title: str,
    track: Track = silent,
    secrets: Mapping[str, str] | None = None,
) -> Finished:
    """Do every task that is not finished yet.

    Args:
        engine: its configuration, or a started one.
        work: a function of a module (not of a script), `work(task, out) → JSON`. It writes its files into the empty
            folder `out`; they appear together as `folder/task.name/` when it has returned. It may run twice.
        tasks: in the order of the results.
        folder: belongs to the engine; results under the names of `tasks` that are not theirs are replaced.
        version: all that decides about the files beside the fields of a task: version of the code, configuration,
            content hashes of the inputs.
        title: of the progress, and at the head of errors.
        track: shows how many tasks are done.
        secrets: environment variables that `work` needs. Set only while it runs; never written or logged.

    Raises:
        DataError: that of `work` (of the first failing task in task order), or one line about another failure.
    """
    if isinstance(engine, LocalEngine | RayEngine):
        with start_engine(engine) as crew:
            return run_tasks(crew, work, tasks, folder, version=version, title=title, track=track, secrets=secrets)
    _check(work, tasks, title)
    folder, hidden = folder.absolute(), dict(secrets or {})
    jobs = [Job(work, task, task_key(work, task, version), folder, title, hidden) for task in tasks]
    with _alone(folder, title):
        return _finish(engine, jobs, title, track)


def _finish(engine: Crew, jobs: list[Job], title: str, track: Track) -> Finished:
    results: dict[int, Any] = {}
    remade: dict[str, str] = {}
    kept = _kept(jobs, remade)
    for index, result in track(_stream(engine, jobs, kept), title, len(jobs)):
        results[index] = result
    return Finished([results[index] for index in range(len(jobs))], len(kept), remade)


def _check(work: Callable[..., Any], tasks: Sequence[Task], title: str) -> None:
    """What would fail late or lose results fails at once: mistakes of the calling code."""
    if work.__module__ == "__main__" or "<" in work.__qualname__:
        raise ValueError(
            f"{title}: {work.__qualname__} cannot be found by other processes; make it a module's function"
        )
    names = [task.name for task in tasks]
    for name in names:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise ValueError(f"{title}: task name {name!r} is not fit for a folder; use letters, digits and hyphens")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{title}: two tasks are called {twice}; their files would replace each other")


@contextlib.contextmanager
def _alone(folder: Path, title: str) -> Iterator[None]:
    """Hold the folder, without what earlier starts left unfinished; two parents would remove each other's work."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{title}: {folder} is in use by another process; wait for it, or end it") from None
        except OSError:
            pass  # a file system without locks
        sweep(folder)
        try:
            yield
        finally:
            sweep(folder)


def _kept(jobs: list[Job], remade: dict[str, str]) -> dict[int, Any]:
    """The results of an earlier start that hold; what does not hold is removed and named in `remade`."""
    kept: dict[int, Any] = {}
    for index, job in enumerate(jobs):
        found = read_receipt(job.target, job.key)
        if found is None:
            continue
        if found.wrong is None:
            kept[index] = found.result
            continue
        remade[job.task.name] = found.wrong
        if job.target.is_dir():
            shutil.rmtree(job.target)
        else:
            job.target.unlink()
    return kept


def _stream(engine: Crew, jobs: list[Job], kept: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    """All results as they come."""
    yield from kept.items()
    todo = {index: job for index, job in enumerate(jobs) if index not in kept}
    # A process costs more to start than a task to run here.
    alone = isinstance(engine, LocalCrew) and (engine.size == 1 or len(todo) == 1)
    yield from _complete(InlineCrew() if alone else engine, todo)


def _complete(crew: Crew, jobs: dict[int, Job]) -> Iterator[tuple[int, Any]]:
    """The results of unfinished tasks as they come; those whose worker died are tried once more, each by itself.

    Raises the error of the first failing task in task order: every task before it has ended when it is raised.
    """
    failed: dict[int, Outcome] = {}
    lost: dict[int, Job] = {}
    if not jobs:
        return
    width = crew.open(next(iter(jobs.values())).secrets)
    for index, outcome in _round(crew, jobs, width, last=False):
        if outcome.lost is not None:
            lost[index] = jobs[index]
        elif outcome.error is not None:
            failed[index] = outcome
        else:
            yield index, outcome.result
    again = {index: job for index, job in lost.items() if index < min(failed, default=float("inf"))}
    for index, outcome in _round(crew, again, 1, last=True):
        if outcome.lost is not None:
            failed[index] = _died_twice(jobs[index], outcome.lost)
        elif outcome.error is not None:
            failed[index] = outcome
        else:
            yield index, outcome.result
    if failed:
        first = failed[min(failed)]
        error = DataError(first.error)
        if first.trace:
            error.add_note(first.trace)
        raise error


def _round(crew: Crew, jobs: Mapping[int, Job], width: int, last: bool) -> Iterator[tuple[int, Outcome]]:
    """Start the jobs in order, at most `width` at a time. After a failure only those before it are waited for.

    In the last round a lost worker is a failure.
    """
    waiting, running, end = deque(sorted(jobs)), set[int](), float("inf")
    try:
        while True:
            while waiting and waiting[0] < end and len(running) < width:
                running.add(waiting[0])
                crew.start(waiting[0], jobs[waiting.popleft()])
            if not running:
                return
            for index, outcome in crew.finished():
                running.discard(index)
                if outcome.error is not None or (last and outcome.lost is not None):
                    end = min(end, index)
                yield index, outcome
            late = {index for index in running if index > end}
            crew.abandon(late)
            running -= late
    finally:
        crew.abandon(running)


def _died_twice(job: Job, how: str) -> Outcome:
    return Outcome(
        error=f"{job.title}: task {job.task.name}: its worker {how}, also when no other task ran; finished tasks are "
        "kept; use smaller shards, or a machine with more memory"
    )

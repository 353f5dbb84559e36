"""Workers that are processes of this machine, and the one that is this process.

Not `ProcessPoolExecutor`: one killed worker breaks its whole pool without telling which task it held, it runs the
caller's script once more in each worker, and its workers outlive a parent that was killed.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO

import psutil

from data_prep.engines.attempt import ONE_THREAD, Job, Outcome, attempt
from data_prep.engines.config import LocalEngine
from data_prep.errors import DataError

MOST_WORKERS = 64
MEMORY_OF_A_WORKER = 2**30
CGROUP = Path("/sys/fs/cgroup")
BOOT = "import sys; sys.path[:] = sys.argv[3:]; from data_prep.engines.local_worker import main; main(*sys.argv[1:3])"


class InlineCrew:
    """The calling process as the only worker."""

    def __init__(self) -> None:
        self._job: tuple[int, Job] | None = None

    def open(self, secrets: Collection[str]) -> int:
        """One task at a time."""
        return 1

    def start(self, index: int, job: Job) -> None:
        """Remember the task until `finished`."""
        self._job = (index, job)

    def finished(self) -> Iterable[tuple[int, Outcome]]:
        """Do the task."""
        assert self._job is not None
        (index, job), self._job = self._job, None
        return [(index, attempt(job))]

    def abandon(self, indexes: Iterable[int]) -> None:
        """Nothing runs between two calls."""

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    said: IO[bytes]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.said.close()


class LocalCrew:
    """Processes of this machine; each is started when a task needs it and ends with the parent, however that ends."""

    def __init__(self, config: LocalEngine):
        self.size = usable_processors() if config.workers == "auto" else config.workers
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def open(self, secrets: Collection[str]) -> int:
        """Workers start with their first task."""
        return self.size

    def start(self, index: int, job: Job) -> None:
        """Send the task to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else _start_worker(job.secrets)
        self._busy[index] = worker
        with contextlib.suppress(BrokenPipeError):  # it died idle: `finished` sees it
            worker.connection.send_bytes(pickle.dumps(job))

    def finished(self) -> Iterable[tuple[int, Outcome]]:
        """Wait for outcomes, and for deaths."""
        of_connection = {worker.connection: index for index, worker in self._busy.items()}
        outcomes = list[tuple[int, Outcome]]()
        for connection in wait(list(of_connection)):
            assert isinstance(connection, Connection)
            index = of_connection[connection]
            worker = self._busy[index]
            try:
                outcomes.append((index, pickle.loads(connection.recv_bytes())))
                self._idle.append(self._busy.pop(index))
            except (EOFError, OSError):
                worker.process.wait()
                outcomes.append((index, Outcome(lost=_manner(worker))))
                self._busy.pop(index).end()
        return outcomes

    def abandon(self, indexes: Iterable[int]) -> None:
        """End the workers that hold these tasks."""
        for index in list(indexes):
            if index in self._busy:
                self._busy.pop(index).end()

    def close(self) -> None:
        """End all workers."""
        for worker in [*self._idle, *self._busy.values()]:
            worker.end()
        self._idle, self._busy = [], {}


def usable_processors() -> int:
    """The processors that this process may use (affinity, cgroup limit), but no more than GB of free memory, or 64."""
    allowed = [len(os.sched_getaffinity(0)), *_cgroup_limit(), psutil.virtual_memory().available // MEMORY_OF_A_WORKER]
    return max(1, min(*allowed, MOST_WORKERS))


def _cgroup_limit(root: Path = CGROUP) -> Iterator[int]:
    """Processors granted by version 2 or 1 of cgroups, at least 1; nothing where there is no limit."""
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            words = (root / quota_file).read_text(encoding="ascii").split()
            if period_file:
                words += (root / period_file).read_text(encoding="ascii").split()
            quota, period = int(words[0]), int(words[1])  # "max" is no number
            if quota > 0 and period > 0:
                yield max(1, quota // period)


def _start_worker(secrets: Collection[str]) -> _Worker:
    ours, theirs = Pipe()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
    with theirs, _deaf_to_interrupts():
        process = subprocess.Popen(
            # BOOT takes over the parent's sys.path before it imports: nothing of the current folder stands in for ours.
            [sys.executable, "-c", BOOT, str(theirs.fileno()), str(os.getpid()), *import_path()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[theirs.fileno()],
            env=_environment(os.environ, secrets),
        )
    return _Worker(process, ours, said)


def _environment(parents: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in parents.items() if name not in secrets} | ONE_THREAD


def import_path() -> list[str]:
    """This process's sys.path, which may hold a source tree and folders relative to where the parent was started."""
    return [os.path.abspath(entry) if not entry or os.path.exists(entry) else entry for entry in sys.path]


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which reaches the whole group: the parent answers, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the mask is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _manner(worker: _Worker) -> str:
    """How a worker ended; one that never came up is no use to retry."""
    code = worker.process.returncode
    worker.said.seek(0)
    lines = worker.said.read().decode("utf-8", "replace").strip().splitlines()
    if code > 0 and lines:
        raise DataError(f"engine.kind=local: a worker process did not start ({lines[-1]}); check the installation")
    hint = " (often out of memory)" if code == -signal.SIGKILL else ""
    return f"was killed by signal {-code}{hint}" if code < 0 else f"ended with code {code} without a word"

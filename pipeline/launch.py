"""How a node is started: in the warm child, or on several ranks through torchrun or Accelerate."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.accelerate_file import config_file, write_config_file
from pipeline.config import LaunchConfig
from pipeline.errors import DataFault, ProvetuneError, StageFailed
from pipeline.progress import EVENTS, EventReader
from pipeline.worker import PARENT

POLL_SECONDS = 0.05
FORGOTTEN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Left by an outer launcher, these would make our ranks join the wrong group."""

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""Tell glibc to reuse freed activations instead of returning them to the kernel and faulting them in again at every
step: a third more tokens per second in CPU training, the same losses, 3 % more memory (docs/performance.md)."""

ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s+: (\d+) .*?exitcode\s+: (-?\d+) \(pid: (\d+)\)", re.DOTALL)
"""What torchrun writes about the rank that fell first."""
LAST_WORDS_SECONDS = 10.0
"""How long a launcher may take to end the other ranks after one failed."""

OnEvent = Callable[[dict[str, Any]], None]


def rank_command(launch: LaunchConfig, folder: Path) -> list[str]:
    """The command that runs a training node on the ranks of this machine.

    CPU ranks go through torchrun: `accelerate launch --cpu --num_processes 2` starts one process (1.15.0).
    """
    worker = ["-m", "pipeline.worker", str(folder)]
    if launch.on_gpus:
        accelerate = [sys.executable, "-m", "accelerate.commands.launch"]
        return [*accelerate, "--config_file", str(config_file(launch, folder)), *worker]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(launch.processes), "--max-restarts", "0", *worker]


def worker_environment(processes: int = 1) -> dict[str, str]:
    """This environment without an outer launcher's ranks; CPU threads shared out among the ranks."""
    environment = KEEP_MEMORY | {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment[PARENT] = str(os.getpid())
    environment["PYTHONSAFEPATH"] = "1"  # an `eval.py` of the user's in the current folder must not stand in for ours
    root = Path(__file__).parents[1]
    if str(root) != sysconfig.get_path("purelib"):  # a source tree, which may not be installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    if processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return environment


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which reaches the whole group: the parent answers, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the mask is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class Finished:
    """How a node ended well."""

    metrics: dict[str, float]
    peak_memory: int


class Workers:
    """Runs nodes in child processes; the parent never imports torch. Use as a context manager."""

    def __init__(self, launch: LaunchConfig):
        self._launch = launch
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_child()

    def run(self, folder: Path, ranks: bool, on_event: OnEvent) -> Finished:
        """Run the node of an artifact folder to its end. Raises DataFault or StageFailed with one line."""
        events = EventReader(folder / "logs" / EVENTS)
        if ranks and (self._launch.processes > 1 or self._launch.on_gpus):
            self._stop_child()  # its memory belongs to the ranks now
            return self._run_ranks(folder, events, on_event)
        child = self._warm_child()
        assert child.stdin is not None
        child.stdin.write(json.dumps(str(folder.absolute())) + "\n")  # a path may hold a newline
        child.stdin.flush()
        return follow(child, folder, events, 1, on_event, _death)

    def _run_ranks(self, folder: Path, events: EventReader, on_event: OnEvent) -> Finished:
        processes = self._launch.processes
        (folder / "logs").mkdir(exist_ok=True)
        if self._launch.kind.startswith("deepspeed") and find_spec("deepspeed") is None:
            raise StageFailed(f"launch={self._launch.kind}: needs deepspeed (pip install deepspeed), or launch=fsdp2")
        if self._launch.on_gpus:
            write_config_file(self._launch, folder)
        log = (folder / "logs" / "launcher.log").open("wb")
        with deaf_to_interrupts():
            child = subprocess.Popen(
                rank_command(self._launch, folder.absolute()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=worker_environment(processes),
                text=True,
            )
        try:
            finished = follow(child, folder, events, processes, on_event, end_of_ranks)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=30)
            return finished
        finally:
            child.kill()  # its ranks end with it
            child.wait()
            log.close()

    def _warm_child(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            command = [sys.executable, "-m", "pipeline.worker"]
            with deaf_to_interrupts():
                self._child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=worker_environment())
        return self._child

    def _stop_child(self) -> None:
        if self._child is not None:
            assert self._child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._child.stdin.close()  # the worker ends itself
            self._child.wait()
            self._child = None


Events = list[dict[str, Any]]


def follow(
    child: subprocess.Popen[str],
    folder: Path,
    events: EventReader,
    ranks: int,
    on_event: OnEvent,
    explain: Callable[[int, Path, Events], ProvetuneError],
) -> Finished:
    """Hand on events until every rank is done; a failure or the child's death is an error.

    After one of several ranks failed, the launcher's end is awaited: it knows which rank fell first.
    """
    done: dict[int, dict[str, Any]] = {}
    failed: Events = []
    deadline = float("inf")
    while True:
        alive = child.poll() is None
        for event in events.read():
            if event["event"] == "failed":
                failed.append(event)
                deadline = min(deadline, time.monotonic() + (LAST_WORDS_SECONDS if ranks > 1 else 0))
            if event["event"] == "done":
                done[event["rank"]] = event
            on_event(event)
        if len(done) == ranks:
            return Finished(done[0]["metrics"], max(event["peak_memory"] for event in done.values()))
        if not alive or time.monotonic() >= deadline:
            raise explain(child.returncode or 0, folder, failed)
        time.sleep(POLL_SECONDS)


def _death(code: int, folder: Path, failed: Events) -> ProvetuneError:
    """The stage's own error (data errors keep their exit code), or how its process ended without a word."""
    if not failed:
        return StageFailed(f"a worker {_manner(code)} (logs: {folder}/logs/)")
    event = failed[0]
    where = f"log: {folder}/logs/rank{event['rank']}.log"
    if event["code"] == 3:
        return DataFault(f"{event['message']} ({where})")
    return StageFailed(f"{event['error']}: {event['message']} ({where})")


def end_of_ranks(code: int, folder: Path, failed: Events) -> ProvetuneError:
    """The rank that fell first, by torchrun's account: the others may only have lost their connection to it."""
    told = ROOT_CAUSE.findall((folder / "logs" / "launcher.log").read_text(encoding="utf-8", errors="replace"))
    if not told:
        return _death(code, folder, failed)
    rank, end, process = (int(number) for number in told[-1])
    own = [event for event in failed if event["rank"] == rank]
    if own or (failed and end > 0):
        return _death(code, folder, own or failed)
    return StageFailed(
        f"rank {rank} (process {process}) {_manner(end)}; the others were stopped (logs: {folder}/logs/)"
    )


def _manner(code: int) -> str:
    """How a process ended; signal 9 is often the kernel's, out of memory. A worker that cannot log exits with errno."""
    if code == errno.ENOSPC:
        return "found no space left on the disk; free some, or set outputs=FOLDER on another disk"
    hint = "; signal 9 often means out of memory: lower batch sizes or max_length" if code == -9 else ""
    return f"was killed by signal {-code}{hint}" if code < 0 else f"ended with code {code} without a word"

"""Following a node's processes to their end: what they tell, and who of them failed, died, hangs or is slow."""

import contextlib
import errno
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import DataFault, Preempted, ProvetuneError, Pruned, StageFailed
from pipeline.heartbeat import Hearts, last_lines
from pipeline.preemption import NEXT, ask_to_stop, asked, patience
from pipeline.progress import EventReader

POLL_SECONDS = 0.05
ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s+: (\d+) .*?exitcode\s+: (-?\d+) \(pid: (\d+)\)", re.DOTALL)
"""What torchrun writes about the rank that fell first."""
LAST_WORDS_SECONDS = 10.0
"""How long a launcher may take to end the other ranks after one failed."""

OnEvent = Callable[[dict[str, Any]], None]
Events = list[dict[str, Any]]
End = tuple[int | None, ProvetuneError]
"""The rank at fault, where one is, and the error."""


@dataclass(frozen=True)
class Finished:
    """How a node ended well."""

    metrics: dict[str, float]
    peak_memory: int


def follow(
    child: subprocess.Popen[str],
    folder: Path,
    events: EventReader,
    ranks: int,
    on_event: OnEvent,
    explain: Callable[[int, Path, Events], End],
    hang_timeout: float,
    patient: bool,
) -> Finished:
    """Hand on events until every rank is done; a failure, a death, a rank that hangs, or a signal is an error.

    `patient`: a signal lets a training that has made steps write a checkpoint first. Before an error is raised the last
    lines of the log of the rank at fault are told.
    """
    following = _Following(folder, ranks, on_event, hang_timeout)
    with patience() if patient else contextlib.nullcontext():
        while True:
            alive = child.poll() is None
            following.take(events.read())
            if (finished := following.finished()) is not None:
                return finished
            if patient:
                following.heed_signal()
            if not alive or time.monotonic() >= following.deadline:
                rank, error = explain(child.returncode or 0, folder, following.failed)
                following.show_log(rank)
                raise error
            following.refuse_hang()
            time.sleep(POLL_SECONDS)


class _Following:
    """What has been heard of a node's ranks."""

    def __init__(self, folder: Path, ranks: int, on_event: OnEvent, hang_timeout: float):
        self._folder, self._ranks, self._on_event = folder, ranks, on_event
        self._done: dict[int, dict[str, Any]] = {}
        self._stopped: dict[int, dict[str, Any]] = {}
        self.failed: Events = []
        self.deadline = float("inf")
        self._hearts = Hearts(folder / "logs", ranks, hang_timeout)

    def take(self, events: Events) -> None:
        """After one of several ranks failed, the launcher's end is awaited: it knows which rank fell first."""
        for event in events:
            if event["event"] == "failed":
                self.failed.append(event)
                self.deadline = min(self.deadline, time.monotonic() + (LAST_WORDS_SECONDS if self._ranks > 1 else 0))
            elif event["event"] in ("done", "stopped"):
                (self._done if event["event"] == "done" else self._stopped)[event["rank"]] = event
            self._hearts.event()
            self._on_event(event)

    def finished(self) -> Finished | None:
        """Once every rank is done; Preempted once every rank has stopped."""
        if len(self._done) == self._ranks:
            peak = max(event["peak_memory"] for event in self._done.values())
            return Finished({**self._done[0]["metrics"], **self._hearts.slow}, peak)
        if len(self._stopped) == self._ranks:
            step = self._stopped[0]["step"]
            raise Preempted(f"stopped by {_signal()} with a checkpoint of step {step}; {NEXT}")
        return None

    def heed_signal(self) -> None:
        """Ask for a checkpoint, or end at once where nothing has been trained."""
        if asked() is None:
            return
        if not self._hearts.training:
            raise Preempted(f"stopped by {_signal()} before the first step; {NEXT}")
        ask_to_stop(self._folder / "logs")

    def refuse_hang(self) -> None:
        """StageFailed with the rank that hangs; warnings before it comes to that."""
        hung = self._hearts.hung()
        if hung is not None:
            self.show_log(hung[0])
            raise StageFailed(f"{hung[1]}; the others were stopped (logs: {self._folder}/logs/)")
        for warning in self._hearts.warnings():
            self._on_event({"event": "warning", "message": warning})

    def show_log(self, rank: int | None) -> None:
        """The last lines of a rank's log."""
        if rank is not None:
            for line in last_lines(self._folder / "logs", rank):
                self._on_event({"event": "log", "message": f"rank {rank}: {line}"})


def _signal() -> str:
    number = asked()
    return number.name if number is not None else "another node's signal"


def end_family(child: subprocess.Popen[str]) -> None:
    """End a launcher and all of its ranks. A stopped rank does not notice its launcher's end."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(child.pid).children(recursive=True)
        child.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    child.kill()
    child.wait()


def end_of_one(code: int, folder: Path, failed: Events) -> End:
    """The stage's own error (data errors keep their exit code), or how its process ended without a word."""
    if not failed:
        return None, StageFailed(f"a worker {_manner(code)} (logs: {folder}/logs/)")
    event = failed[0]
    where = f"log: {folder}/logs/rank{event['rank']}.log"
    if event["code"] == Pruned.exit_code:
        return None, Pruned(event["message"])
    if event["code"] == 3:
        return None, DataFault(f"{event['message']} ({where})")
    return None, StageFailed(f"{event['error']}: {event['message']} ({where})")


def end_of_ranks(code: int, folder: Path, failed: Events) -> End:
    """The rank that fell first, by torchrun's account: the others may only have lost their connection to it."""
    told = ROOT_CAUSE.findall((folder / "logs" / "launcher.log").read_text(encoding="utf-8", errors="replace"))
    if not told:
        return end_of_one(code, folder, failed)
    rank, end, process = (int(number) for number in told[-1])
    own = [event for event in failed if event["rank"] == rank]
    if own or (failed and end > 0):
        return end_of_one(code, folder, own or failed)
    return rank, StageFailed(
        f"rank {rank} (process {process}) {_manner(end)}; the others were stopped (logs: {folder}/logs/)"
    )


def _manner(code: int) -> str:
    """How a process ended; signal 9 is often the kernel's, out of memory. A worker that cannot log exits with errno."""
    if code == errno.ENOSPC:
        return "found no space left on the disk; free some, or set outputs=FOLDER on another disk"
    hint = "; signal 9 often means out of memory: lower batch sizes or max_length" if code == -9 else ""
    return f"was killed by signal {-code}{hint}" if code < 0 else f"ended with code {code} without a word"

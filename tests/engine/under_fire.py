"""Trainings that are killed: what is started, who of its processes dies, and what must not be left or made twice."""

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

STEPS, EVERY = 300, 10
RUN = (
    *("+experiment=smoke", "run=[filter,sft]", "stages.sft.validate_every=null"),
    *(f"stages.sft.max_steps={STEPS}", f"stages.sft.checkpoint_every={EVERY}"),
)
RANKS = ("launch=cpu_ranks", "launch.processes=2")
NODES = (*RANKS, "launch.nodes=2", "launch.node_address=127.0.0.1", "launch.node_timeout=6", "run_id=nodes")
LOOK_SECONDS, LIST_SECONDS = 0.02, 0.3
"""Between two looks at the log of steps, and between two listings of all processes, which cost more."""

LEFT_SECONDS = 180
"""Ray's agents look for their raylet only now and then, on a busy machine a minute after it has died."""
LOCKED_SECONDS = 10
"""A rank that was born after the last look at the processes has yet to see that its run is dead."""


@dataclass(frozen=True)
class Kind:
    """What is killed, in which start."""

    starts: tuple[tuple[str, ...], ...] = ((),)
    """The overrides of each process that is started."""
    victim: str | None = None
    """A word in the command line of the process that dies; None: a process that was started itself."""
    cancels: bool = False
    """Slurm kills, by `scancel --signal=KILL`."""

    @property
    def on_slurm(self) -> bool:
        """Whether it needs a cluster."""
        return any("hydra/launcher=slurm" in start for start in self.starts)


def sweep(launcher: str) -> tuple[tuple[str, ...], ...]:
    return (("-m", f"hydra/launcher={launcher}"),)


WORKER, LAUNCHER = "pipeline.worker", "torch.distributed.run"
ONE_RANK = {
    "parent": Kind(),
    "worker": Kind(victim=WORKER),
    "sweep": Kind(sweep("joblib")),
    "worker of a sweep": Kind(sweep("joblib"), "loky"),
    "sweep on Ray": Kind(sweep("ray")),
    "Ray worker": Kind(sweep("ray"), "ray::_in_ray"),
    "Slurm job": Kind(sweep("slurm"), "submitit.core._submit", cancels=True),
    "process of a Slurm job": Kind(sweep("slurm"), "submitit.core._submit"),
}
TWO_RANKS = {
    "parent of ranks": Kind((RANKS,)),
    "launcher": Kind((RANKS,), LAUNCHER),
    "rank": Kind((RANKS,), WORKER),
    "node": Kind(((*NODES, "launch.node_rank=0"), (*NODES, "launch.node_rank=1"))),
}


@dataclass
class StepsTrained:
    """How often each step was trained, read off the log while it grows: a resume cuts it back to its checkpoint."""

    outputs: Path
    again: list[int] = field(default_factory=list)
    """For each resume, the steps before the kill that its checkpoint does not hold."""
    last: tuple[int, int] = (0, 0)
    """The file (each resume writes a new one), and its lines."""

    def look(self) -> None:
        """Must be called more often than a resume takes from its cut to its first step."""
        for log in self.outputs.glob("artifacts/sft.train/*/checkpoints/steps.jsonl"):
            with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
                now = os.fstat(file.fileno()).st_ino, file.read().count(b"\n")
                if now[0] != self.last[0] and self.last[0]:
                    self.again.append(self.last[1] - now[1])
                self.last = now


class Try:
    """The processes of one start, each with its children."""

    def __init__(self, outputs: Path, kind: Kind, steps: StepsTrained, environment: Mapping[str, str]):
        self.outputs, self.kind, self.steps = outputs, kind, steps
        self._environment = {**os.environ, **environment}
        self._seen: dict[int, psutil.Process] = {}
        self._listed = float("-inf")
        self.parents = [self._start(overrides) for overrides in kind.starts]

    def _start(self, overrides: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipeline", *overrides, *RUN, f"outputs={self.outputs}"]
        with (self.outputs / "tries.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=self._environment
            )

    def _look(self, processes: bool = False) -> None:
        self.steps.look()
        if processes or time.monotonic() - self._listed >= LIST_SECONDS:
            for root in self._roots():
                for process in _tree(root):
                    self._seen.setdefault(process.pid, process)
            self._listed = time.monotonic()

    def _roots(self) -> list[int]:
        """On Slurm, what works on these outputs is nobody's child here."""
        jobs = [one.pid for one in psutil.process_iter() if str(self.outputs) in " ".join(_command(one))]
        return [parent.pid for parent in self.parents] + (jobs if self.kind.on_slurm else [])

    def _family(self) -> list[psutil.Process]:
        """All processes that were ever seen and live."""
        return [one for one in self._seen.values() if _lives(one)]

    def victims(self) -> list[psutil.Process]:
        """What there is of the kind now."""
        parents = {parent.pid for parent in self.parents}
        if self.kind.victim is None:
            return [one for one in self._family() if one.pid in parents]
        found = [one for one in self._family() if one.pid not in parents and self.kind.victim in _words(one)]
        return [one for one in found if one.name() != "srun"]  # it names the job's command too

    def kill_one(self, chance: random.Random) -> bool:
        """At a random moment, more often than not inside the training; False when all had ended before."""
        inside, delay = chance.random() < 0.6, chance.uniform(0, 8)
        began, trained, before = time.monotonic(), None, self.steps.last
        while any(parent.poll() is None for parent in self.parents):
            self._look()
            trained = trained or (time.monotonic() if self.steps.last[1] and self.steps.last != before else None)
            due = trained and time.monotonic() - trained >= delay / 4 if inside else time.monotonic() - began >= delay
            if due:
                self._look(processes=True)
                if victims := self.victims():
                    self._kill(chance.choice(victims))
                    return True
            time.sleep(LOOK_SECONDS)
        return False

    def _kill(self, victim: psutil.Process) -> None:
        if not self.kind.cancels:
            victim.send_signal(signal.SIGKILL)
            return
        told = {"env": self._environment, "capture_output": True, "text": True, "check": True, "timeout": 60}
        job = subprocess.run(["squeue", "--noheader", "--format=%F"], **told).stdout.split()[0]
        subprocess.run(["scancel", "--signal=KILL", "--full", job], **told)

    def end(self) -> None:
        """All processes end by themselves; what is left for so long, zombies too, is a fault."""
        deadline = time.monotonic() + 200
        while any(parent.poll() is None for parent in self.parents):
            self._look()
            assert time.monotonic() < deadline, "the run did not end"
            time.sleep(LOOK_SECONDS)
        deadline = time.monotonic() + LEFT_SECONDS
        while left := [_told(one) for one in self._seen.values() if _lives(one) or _is_zombie(one)]:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.1)
        self.steps.look()


def _tree(process: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process)
        yield parent
        yield from parent.children(recursive=True)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _words(process: psutil.Process) -> str:
    return " ".join(_command(process))


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.status()} {process.name()} {_words(process)[:200]}"
    return f"{process.pid}"


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_zombie(process: psutil.Process) -> bool:
    """One that its own parent does not wait for; the machine's first process waits for orphans in its own time."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() == psutil.STATUS_ZOMBIE and process.ppid() > 1
    return False


def refuse_stale_locks(outputs: Path) -> None:
    """Every lock can be had, at once or when a process that nobody saw has ended too."""
    deadline = time.monotonic() + LOCKED_SECONDS
    for path in outputs.glob("artifacts/**/*.lock"):
        with path.open("a") as file:
            while not _can_lock(file):
                assert time.monotonic() < deadline, f"{path} is still locked"
                time.sleep(0.1)


def _can_lock(file: IO[str]) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def seals(outputs: Path) -> dict[Path, int]:
    """When each artifact was finished: a file that is there must never change again."""
    return {file: file.stat().st_mtime_ns for file in outputs.glob("artifacts/*/*/done.json")}


def result(outputs: Path) -> tuple[list[tuple[int, float]], dict[str, float], str]:
    """The loss of every step, the losses among the metrics, the hash of the weights."""
    (folder,) = (file.parent for file in outputs.glob("artifacts/sft.train/*/done.json"))
    lines = map(json.loads, (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines())
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    files = json.loads((folder / "done.json").read_text(encoding="utf-8"))["files"]
    same = {name: metrics[name] for name in ("first_loss", "last_loss", "steps")}
    return [(line["step"], line["loss"]) for line in lines], same, files["adapter/adapter_model.safetensors"]

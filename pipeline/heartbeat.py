"""The hearts of the ranks: each rank tells every second that it lives and how far it is, and the parent reads it.

    logs/heart-<rank>.json   {"pid", "host", "beat", "phase", "step", "own"}

A stopped or frozen rank gives no more beats. One in a dead lock beats, but no longer moves: then every rank waits for
the one that is behind. A slow rank is the one whose own work takes longest (`own`: seconds of a step before it waits
for the others). No clock is compared between processes: a beat is a counter that must change while the reader's runs.
"""

import contextlib
import faulthandler
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json

BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.5
"""Between two looks of the parent."""
LIMIT = "PROVETUNE_HANG_TIMEOUT"
"""Environment variable: `launch.hang_timeout`, for the ranks."""

PHASES = ("start", "between steps", "forward and backward", "update", "end")
"""What a rank does, in the order of a training step; `between steps`: batches, validation, checkpoints."""

SLOW_RATIO, SLOW_SECONDS = 1.5, 0.05
"""A rank is slow when its own work takes so much longer than that of the others."""
SMOOTHING = 0.2
"""Weight of the newest step in a rank's own time."""
SETTLED_STEPS = 10
"""Steps before ranks are compared: the first ones warm up."""


class Heart:
    """A rank's side. Use as a context manager for the time of a node."""

    def __init__(self, logs: Path, rank: int, limit: float | None = None):
        self._file, self._unfinished = logs / f"heart-{rank}.json", logs / f".heart-{rank}.tmp"
        self._limit = limit
        self._over = threading.Event()
        self._state: dict[str, Any] = {"pid": os.getpid(), "host": socket.gethostname(), "beat": 0}
        self._state |= {"phase": PHASES[0], "step": 0, "own": None, "steps_here": 0}

    def __enter__(self) -> "Heart":
        global _beating
        self._beat()
        threading.Thread(target=self._keep_beating, daemon=True).start()
        _beating = self
        return self

    def __exit__(self, *_: object) -> None:
        global _beating
        _beating = None
        self._over.set()
        if self._limit:
            faulthandler.cancel_dump_traceback_later()

    def moved(self, phase: str, step: int) -> None:
        """The rank has come to a phase of a step. If it stays there too long, its stack goes to the rank's log."""
        first = self._state["phase"] == PHASES[0]
        self._state["phase"], self._state["step"] = phase, step
        if first:
            with contextlib.suppress(OSError):
                self._beat()  # at once: from here on there is something to save
        if self._limit:
            faulthandler.dump_traceback_later(0.8 * self._limit)

    def worked(self, seconds: float) -> None:
        """One step's own work took so long."""
        before = self._state["own"]
        self._state["own"] = seconds if before is None else (1 - SMOOTHING) * before + SMOOTHING * seconds
        self._state["steps_here"] += 1

    def _beat(self) -> None:
        self._state["beat"] += 1
        self._unfinished.write_text(json.dumps(self._state), encoding="utf-8")
        self._unfinished.replace(self._file)

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk is told by what else wants to write
                self._beat()


_beating: Heart | None = None
"""The heart of the node that runs in this process."""


def moved(phase: str, step: int) -> None:
    """Tell the parent where this rank is; nothing where no parent listens."""
    if _beating is not None:
        _beating.moved(phase, step)


def worked(seconds: float) -> None:
    """Tell the parent how long this rank's own part of a step took."""
    if _beating is not None:
        _beating.worked(seconds)


@dataclass
class _Heard:
    """What the parent knows of a rank, by its own clock."""

    state: dict[str, Any]
    beat_at: float
    moved_at: float

    @property
    def place(self) -> tuple[int, int]:
        """Step and phase, in the order of a training."""
        return self.state["step"], PHASES.index(self.state["phase"])

    def told(self, rank: int) -> str:
        """The rank as an error names it."""
        return f"rank {rank} (process {self.state['pid']} on {self.state['host']})"

    def where(self) -> str:
        """Step and phase in words."""
        return f"step {self.state['step']}, {self.state['phase']}"


class Hearts:
    """The parent's side: who is silent, stuck or slow."""

    def __init__(self, logs: Path, ranks: int, limit: float):
        self._files = [logs / f"heart-{rank}.json" for rank in range(ranks)]
        self._limit, self._looked = limit, float("-inf")
        self._left = {rank: _read(file) for rank, file in enumerate(self._files)}  # by an earlier try
        self._heard: dict[int, _Heard] = {}
        self._warned: set[tuple[str, int]] = set()
        self.slow: dict[str, float] = {}
        """The slowest rank that was named, and how many times as long as the others it took."""

    @property
    def training(self) -> bool:
        """Whether a rank has come to its first step."""
        self._listen(time.monotonic())
        return any(heard.place > (0, 0) for heard in self._heard.values())

    def event(self) -> None:
        """Something was told by a rank in another way: nobody is stuck."""
        for heard in self._heard.values():
            heard.moved_at = time.monotonic()

    def hung(self) -> tuple[int | None, str] | None:
        """The rank that hangs and what to say of it; None while all is well. Reads the disk at most twice a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        self._listen(now)
        silent = [(heard.beat_at, rank) for rank, heard in self._heard.items() if now - heard.beat_at >= self._limit]
        if silent:
            rank, heard = min(silent)[1], self._heard[min(silent)[1]]
            return rank, (
                f"{heard.told(rank)} has given no sign of life for {self._limit:g} s (launch.hang_timeout), "
                f"last seen at {heard.where()}"
            )
        if len(self._files) > 1 and len(self._heard) == len(self._files):
            return self._stuck(now)
        return None

    def _listen(self, now: float) -> None:
        for rank, file in enumerate(self._files):
            state = _read(file)
            if state is None or state == self._left[rank]:
                continue
            heard = self._heard.setdefault(rank, _Heard(state, now, now))
            if (state["pid"], state["beat"]) != (heard.state["pid"], heard.state["beat"]):
                if (state["step"], state["phase"]) != (heard.state["step"], heard.state["phase"]):
                    heard.moved_at = now
                heard.state, heard.beat_at = state, now

    def _stuck(self, now: float) -> tuple[int | None, str] | None:
        """All beat, none moves: they wait for the one that is behind. While all load or save, torch's limits hold."""
        phases = {heard.state["phase"] for heard in self._heard.values()}
        if phases in ({PHASES[0]}, {PHASES[-1]}):
            return None
        if now - max(heard.moved_at for heard in self._heard.values()) < self._limit:
            return None
        places = {heard.place for heard in self._heard.values()}
        since = f"for {self._limit:g} s (launch.hang_timeout)"
        if len(places) == 1:
            return None, f"no rank has moved {since}, all at {self._heard[0].where()}"
        behind = min(self._heard, key=lambda rank: self._heard[rank].place)
        heard = self._heard[behind]
        return behind, f"{heard.told(behind)} has not moved {since}, at {heard.where()}, behind the others"

    def warnings(self) -> Iterator[str]:
        """What a person should know before it is a failure; each thing once."""
        now = time.monotonic()
        for rank, heard in self._heard.items():
            silent = now - heard.beat_at
            if silent >= min(30.0, self._limit / 3) and self._once("silent", rank):
                yield f"{heard.told(rank)} has given no sign of life for {silent:.0f} s, last seen at {heard.where()}"
        yield from self._slow_ranks()

    def _slow_ranks(self) -> Iterator[str]:
        settled = {rank: heard for rank, heard in self._heard.items() if heard.state["steps_here"] >= SETTLED_STEPS}
        own = {rank: heard.state["own"] for rank, heard in settled.items()}
        if len(own) < 2:
            return
        slowest = max(own, key=lambda rank: own[rank])
        others = statistics.median(seconds for rank, seconds in own.items() if rank != slowest)
        if own[slowest] >= max(SLOW_RATIO * others, others + SLOW_SECONDS) and self._once("slow", slowest):
            ratio = own[slowest] / others if others else float("inf")
            self.slow = {"slow_rank": float(slowest), "slow_rank_ratio": round(ratio, 2)}
            yield (
                f"{settled[slowest].told(slowest)} is slow: {own[slowest]:.2f} s of its own work per step, "
                f"the others {others:.2f} s; all wait for it"
            )

    def _once(self, what: str, rank: int) -> bool:
        new = (what, rank) not in self._warned
        self._warned.add((what, rank))
        return new


def last_lines(logs: Path, rank: int, count: int = 8) -> Sequence[str]:
    """The end of a rank's log."""
    try:
        with (logs / f"rank{rank}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode("utf-8", errors="replace").splitlines()[-count:]
    except OSError:
        return []


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return read_json(file)
    except (OSError, ValueError):
        return None

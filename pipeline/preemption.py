"""Being told to stop: a checkpoint at the next step boundary, then the end, with an exit code that says "go on later".

    logs/stop    in the artifact of a training: written by the parent, read by rank 0 after every step

Only the parent answers SIGTERM, SIGUSR1 and SIGUSR2. Whoever sends them to the whole process group or container (Slurm,
Kubernetes, a terminal) also reaches the launchers and ranks, which must live on until the checkpoint is written.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.errors import Preempted

HEEDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STOP = "stop"
GRACE_SECONDS = 2.0
"""How long a rank that gets SIGTERM waits for the parent's word, before it takes it for torchrun's, and ends."""
NEXT = "the same command continues from the last checkpoint"

_asked: list[signal.Signals] = []
_patient = False


@contextlib.contextmanager
def heed_signals() -> Iterator[None]:
    """For the time of a run: a signal raises Preempted, or waits for a training's checkpoint (`patience`).

    A second one stops at once. Outside the main thread signals cannot be heeded, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = {number: signal.signal(number, _hear) for number in HEEDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hear(number: int, _: FrameType | None) -> None:
    if number == signal.SIGTERM and signal.SIGTERM in _asked:
        raise KeyboardInterrupt  # asked a second time
    _asked.append(signal.Signals(number))
    if not _patient:
        raise Preempted(f"stopped by {_asked[0].name}; {NEXT}")


def asked() -> signal.Signals | None:
    """The signal that this process was asked to stop by, if it was."""
    return _asked[0] if _asked else None


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """While a training runs: a signal is only noted, for it can end with a checkpoint."""
    global _patient
    _patient = True
    try:
        yield
    finally:
        _patient = False


def ask_to_stop(logs: Path) -> None:
    """Let a training write a checkpoint after the step that it is in, and end."""
    (logs / STOP).touch()


def forget_stop(logs: Path) -> None:
    """A training that starts has not been asked yet."""
    (logs / STOP).unlink(missing_ok=True)


class StoppedAt(Exception):
    """Raised in a training by its callback once the checkpoint of the last step is whole."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Survivor:
    """A rank's side: outlives the signals that its parent answers."""

    def __init__(self) -> None:
        self.logs: Path | None = None
        """The logs of the node that runs here."""

    def outlive_signals(self) -> None:
        """From now on USR1 and USR2 change nothing; SIGTERM ends this process unless its parent asked for a stop.

        The mask that the parent started this process with (`deaf`) is lifted. Forked children hear signals again.
        """
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        heard, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)  # told at once, also while the main thread is in C code
        os.register_at_fork(after_in_child=_hear_as_usual)
        threading.Thread(target=self._listen, args=[heard], daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)

    def _listen(self, heard: int) -> None:
        while number := os.read(heard, 1):
            if number[0] == signal.SIGTERM and not self._stop_follows():
                os._exit(128 + signal.SIGTERM)

    def _stop_follows(self) -> bool:
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if self.logs is not None and (self.logs / STOP).exists():
                return True
            time.sleep(0.05)
        return False


def _hear_as_usual() -> None:
    signal.set_wakeup_fd(-1)
    for number in HEEDED:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def deaf(*numbers: signal.Signals) -> Iterator[None]:
    """Processes started here do not hear these signals until they choose to: the mask is inherited."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""The process in which a node runs: a warm child that takes one node after the other, or one rank of a training.

    python -m pipeline.worker            serve: one artifact folder per line (a JSON string) on standard input
    python -m pipeline.worker FOLDER     run one node (a rank of torchrun or accelerate launch)

It reads the frozen `stage.yaml` of the artifact, never Hydra. Its output goes to `logs/rank<N>.log`, its progress and
its end to `logs/events.jsonl`. It dies with its parent: the parent's end closes standard input.
"""

import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import IO, Any

import psutil

from pipeline.heartbeat import LIMIT, Heart
from pipeline.preemption import StoppedAt, Survivor
from pipeline.progress import EVENTS, EventWriter

PARENT = "PROVETUNE_PARENT_PID"
"""Environment variable: the process that started the ranks' launcher."""

survivor = Survivor()
"""What keeps this process alive through the signals that its parent answers."""


def run_node(folder: Path, rank: int) -> bool:
    """Run the node of an artifact folder; False when it failed (the event says why, the log has the traceback)."""
    import yaml

    try:
        events = EventWriter(folder / "logs" / EVENTS)
        survivor.logs = folder / "logs"
        with contextlib.closing(events), _output_to(folder / "logs" / f"rank{rank}.log"):
            stage = yaml.safe_load((folder / "stage.yaml").read_text(encoding="utf-8"))
            return _run(stage, folder, rank, events)
    except OSError as error:  # not even the log can be written, so the exit code must tell why
        os._exit(error.errno or 1)


def _run(stage: dict[str, Any], folder: Path, rank: int, events: EventWriter) -> bool:
    """Call the stage's `run`, and tell the parent how it ended."""
    from pipeline.stages import RUNNERS

    _forget_peak_memory()
    limit = os.environ.get(LIMIT)
    try:
        _wait_for_orphan(folder, rank)
        with Heart(folder / "logs", rank, float(limit) if limit else None):
            module = importlib.import_module(RUNNERS[stage["kind"]])
            inputs = {label: Path(path) for label, path in stage["inputs"].items()}
            metrics = module.run(stage["config"], inputs, folder, events.track)
    except StoppedAt as stopped:
        events.send("stopped", rank=rank, step=stopped.step)
        return True
    except BaseException as error:
        traceback.print_exc()
        events.send("failed", rank=rank, error=type(error).__name__, message=_one_line(error), code=_exit_code(error))
        return False
    events.send("done", rank=rank, metrics=metrics, peak_memory=_peak_memory())
    return True


def _wait_for_orphan(folder: Path, rank: int) -> None:
    """Wait until a worker whose parent was killed a moment ago has ended too; this process's end frees the lock."""
    global _held
    _held = (folder / "logs" / f"rank{rank}.lock").open("w")
    fcntl.flock(_held, fcntl.LOCK_EX)


_held: IO[str] | None = None
"""The open lock file of the node that runs in this process."""


def _one_line(error: BaseException) -> str:
    """The error's message on one line, with the type's name when it says nothing."""
    text = " ".join(str(error).split())
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "os error 28" in text:  # safetensors words it in its own exception
        place = getattr(error, "filename", None) or "the outputs folder"
        return f"no space left on the disk of {place}; free some, or set outputs=FOLDER"
    return text[:500] if text else type(error).__name__


def _exit_code(error: BaseException) -> int:
    """3 for data that cannot be used, 4 for anything else."""
    from data_prep.errors import DataError
    from pipeline.errors import ProvetuneError

    if isinstance(error, ProvetuneError):
        return error.exit_code
    return 3 if isinstance(error, DataError) else 4


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send this process's standard output and error to a file, also those of C++ code, and back afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (file, *saved):
            os.close(descriptor)


def _forget_peak_memory() -> None:
    """Start the kernel's record of peak memory anew, so that a warm child measures each node by itself."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # give back what earlier nodes freed (launch.KEEP_MEMORY held it)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> int:
    """Largest resident memory in bytes since `_forget_peak_memory`, plus the peak on the GPU."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak += torch.cuda.max_memory_allocated()
    return peak


def _jobs_until_parent_ends() -> Iterator[Path]:
    """Folders from standard input. Its end is the parent's end, and ends this process at once, even mid-node."""
    jobs: Queue[str] = Queue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield Path(jobs.get())


def end_with(launcher: int, parent: int | None) -> None:
    """End this process when its launcher or the run that started it is gone: killed with -9, both leave it behind."""

    def watch() -> None:
        while os.getppid() == launcher and (parent is None or _lives(parent)):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _lives(process: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def main() -> None:
    """Serve, or run one rank."""
    survivor.outlive_signals()
    if len(sys.argv) == 1:
        for folder in _jobs_until_parent_ends():
            run_node(folder, rank=0)
    parent = os.environ.get(PARENT)
    end_with(os.getppid(), int(parent) if parent else None)
    if not run_node(Path(sys.argv[1]), rank=int(os.environ.get("RANK", "0"))):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

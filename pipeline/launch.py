"""How a node is started: in the warm child, or on several ranks through torchrun or Accelerate."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from pipeline.accelerate_file import config_file, write_config_file
from pipeline.config import LaunchConfig
from pipeline.errors import StageFailed
from pipeline.heartbeat import LIMIT
from pipeline.parallel_config import GROUPS, environment_of
from pipeline.preemption import HEEDED, deaf, forget_stop
from pipeline.progress import EVENTS, EventReader
from pipeline.supervise import Finished, OnEvent, end_family, end_of_one, end_of_ranks, follow
from pipeline.worker import PARENT

FORGOTTEN = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *GROUPS,
)
"""Left by an outer launcher, these would make our ranks join the wrong group."""

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""Tell glibc to reuse freed activations instead of returning them to the kernel and faulting them in again at every
step: a third more tokens per second in CPU training, the same losses, 3 % more memory (docs/performance.md)."""


LAUNCHED = (sys.executable, "-m", "pipeline.launched")
"""Before a launcher's module: it ends when the run is killed."""

NO_LOGS = ("--log_dir", os.devnull)
"""torchrun's option (and Accelerate's) against a folder per launch in the system's temporary folder, which nobody
removes: ranks keep logs of their own."""


def rank_command(launch: LaunchConfig, folder: Path) -> list[str]:
    """The command that runs a training node on the ranks of this machine.

    CPU ranks go through torchrun: `accelerate launch --cpu --num_processes 2` starts one process (1.15.0).
    """
    worker = ["-m", "pipeline.worker", str(folder)]
    if launch.on_gpus:
        accelerate = [*LAUNCHED, "accelerate.commands.launch"]
        return [*accelerate, *NO_LOGS, "--config_file", str(config_file(launch, folder)), *worker]
    torchrun = [*LAUNCHED, "torch.distributed.run", *NO_LOGS, "--standalone"]
    return [*torchrun, "--nproc-per-node", str(launch.processes), "--max-restarts", "0", *worker]


def worker_environment(processes: int = 1, hang_timeout: float | None = None) -> dict[str, str]:
    """This environment without an outer launcher's ranks; CPU threads shared out among the ranks."""
    environment = KEEP_MEMORY | {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment[PARENT] = str(os.getpid())
    if hang_timeout is not None:
        environment[LIMIT] = str(hang_timeout)
    environment["PYTHONSAFEPATH"] = "1"  # an `eval.py` of the user's in the current folder must not stand in for ours
    root = Path(__file__).parents[1]
    if str(root) != sysconfig.get_path("purelib"):  # a source tree, which may not be installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    if processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return environment


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
        forget_stop(folder / "logs")
        if ranks and (self._launch.processes > 1 or self._launch.on_gpus):
            self._stop_child()  # its memory belongs to the ranks now
            return self._run_ranks(folder, events, on_event)
        child = self._warm_child()
        assert child.stdin is not None
        child.stdin.write(json.dumps(str(folder.absolute())) + "\n")  # a path may hold a newline
        child.stdin.flush()
        try:
            return follow(child, folder, events, 1, on_event, end_of_one, self._launch.hang_timeout, patient=ranks)
        except BaseException:
            self._end_child()  # it may be frozen, or still at work
            raise

    def _run_ranks(self, folder: Path, events: EventReader, on_event: OnEvent) -> Finished:
        processes = self._launch.processes
        (folder / "logs").mkdir(exist_ok=True)
        if self._launch.kind.startswith("deepspeed") and find_spec("deepspeed") is None:
            raise StageFailed(f"launch={self._launch.kind}: needs deepspeed (pip install deepspeed), or launch=fsdp2")
        if self._launch.on_gpus:
            write_config_file(self._launch, folder)
        log = (folder / "logs" / "launcher.log").open("wb")
        with deaf(signal.SIGINT, *HEEDED):
            child = subprocess.Popen(
                rank_command(self._launch, folder.absolute()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=worker_environment(processes, self._launch.hang_timeout) | environment_of(self._launch),
                text=True,
            )
        try:
            finished = follow(
                child, folder, events, processes, on_event, end_of_ranks, self._launch.hang_timeout, patient=True
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=30)
            return finished
        finally:
            end_family(child)
            log.close()

    def _warm_child(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            command = [sys.executable, "-m", "pipeline.worker"]
            environment = worker_environment(hang_timeout=self._launch.hang_timeout)
            with deaf(signal.SIGINT, *HEEDED):
                self._child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment)
        return self._child

    def _stop_child(self) -> None:
        if self._child is not None:
            assert self._child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._child.stdin.close()  # the worker ends itself
            self._child.wait()
            self._child = None

    def _end_child(self) -> None:
        if self._child is not None:
            end_family(self._child)
            self._child = None

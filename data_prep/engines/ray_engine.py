"""Workers of a Ray cluster: one that is there, or one that is started here and stopped afterwards."""

import contextlib
import importlib
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from data_prep.engines import node
from data_prep.engines.attempt import Job, Outcome
from data_prep.engines.config import RayEngine
from data_prep.engines.local import import_path, usable_processors
from data_prep.engines.receipts import RECEIPT
from data_prep.engines.versions import versions
from data_prep.errors import DataError

ANSWER_SECONDS = 12
VISIBLE_SECONDS = 10.0
LAST_SECONDS = 2.0
RETRIES = 3
OBJECT_STORE_BYTES = 100 * 2**20
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


class RayCrew:
    """The processors of a Ray cluster. Ray repeats a task whose worker died up to three times."""

    def __init__(self, config: RayEngine, gpus: bool = False):
        """`gpus`: where the cluster has any, a task gets one, and so many tasks are worked on at a time."""
        if find_spec("ray") is None:
            raise DataError(
                'engine.kind=ray: Ray is not installed; pip install "provetune[ray]", or use engine.kind=local'
            )
        self._config, self._gpus = config, gpus
        self._running: dict[Any, tuple[int, Job]] = {}
        self._connection = contextlib.ExitStack()
        self._run: Any = None
        self._size = 0

    def open(self, secrets: Collection[str]) -> int:
        """Connect, or start a cluster, which does not inherit these environment variables."""
        if self._run is None:
            self._connection.enter_context(_cluster(self._config, secrets))
            ray = _ray()
            there = int(ray.cluster_resources().get("CPU", 0))
            if there < 1:
                raise DataError("engine.kind=ray: the cluster has no processors; start its nodes with --num-cpus")
            gpus = int(ray.cluster_resources().get("GPU", 0)) if self._gpus else 0
            self._size = (gpus or there) if self._config.workers == "auto" else self._config.workers
            # By value: a node that lacks the package can still say so.
            ray.cloudpickle.register_pickle_by_value(node)
            self._run = ray.remote(num_cpus=1, num_gpus=int(gpus > 0), max_retries=RETRIES)(node.run_there)
        return self._size

    def start(self, index: int, job: Job) -> None:
        """Hand a task to Ray."""
        message = pickle.dumps(replace(job, secrets={}))
        reference = self._run.remote(import_path(), versions(), message, dict(job.secrets))
        self._running[reference] = (index, job)

    def finished(self) -> Iterable[tuple[int, Outcome]]:
        """Wait for outcomes, and for deaths."""
        ready, _ = _ray().wait(list(self._running), num_returns=1)
        outcomes = list[tuple[int, Outcome]]()
        for reference in ready:
            index, job = self._running.pop(reference)
            outcomes.append((index, _outcome(reference, job)))
        return outcomes

    def abandon(self, indexes: Iterable[int]) -> None:
        """End the workers that hold these tasks."""
        given_up = set(indexes)
        for reference, (index, _) in list(self._running.items()):
            if index in given_up:
                del self._running[reference]
                _ray().cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        self._running = {}
        self._run = None
        self._connection.close()


def _ray() -> Any:
    """The package, an extra; untyped, so that types are checked alike without it."""
    return importlib.import_module("ray")


def _outcome(reference: Any, job: Job) -> Outcome:
    ray = _ray()
    try:
        result, error, trace = ray.get(reference)
    except ray.exceptions.RayTaskError as fault:
        return Outcome(error=f"{job.title}: task {job.task.name}: Ray: {_line(fault)}")
    except ray.exceptions.RayError as death:
        return Outcome(lost=f"on the Ray cluster died ({type(death).__name__})")
    if error is None and not _visible(job.target / RECEIPT):
        error = (
            f"engine.kind=ray: {job.target}: written by a node, but not to be seen here; use a folder that all share"
        )
    return Outcome(result, error, trace)


def _visible(file: Path) -> bool:
    """Whether a file that another machine wrote is here; network file systems may be some seconds late."""
    end = time.monotonic() + VISIBLE_SECONDS
    while not file.exists():
        if time.monotonic() > end:
            return False
        os.listdir(file.parent.parent)  # makes NFS look again
        time.sleep(0.2)
    return True


@contextlib.contextmanager
def _cluster(config: RayEngine, secrets: Collection[str]) -> Iterator[None]:
    """Connected to a cluster. A connection that the caller's program already has is used and left open."""
    with _variables(QUIET, secrets):
        ray = _ray()
    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or None
    with contextlib.ExitStack() as stack:
        if address is None:
            folder = stack.enter_context(short_folder())
            processors = usable_processors() if config.workers == "auto" else config.workers
            own = {"_temp_dir": str(folder), "object_store_memory": OBJECT_STORE_BYTES, "num_cpus": processors}
            told: dict[str, Any] = {"address": "local", "include_dashboard": False, **own}
        else:
            told = {"address": _answering(address)}
        before = signal.getsignal(signal.SIGTERM)
        try:
            with _variables(QUIET, secrets):
                ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **told)
        except (Exception, SystemExit) as error:
            where = f"at {address}" if address else "on this machine"
            raise DataError(f"engine.kind=ray: no cluster {where}: {_line(error)}; {_advice(address)}") from error
        stack.enter_context(_silent(ray))
        stack.callback(_stop, ray, own=address is None)
        if before not in (signal.SIG_DFL, None):
            signal.signal(signal.SIGTERM, before)
        yield


def _stop(ray: Any, own: bool) -> None:
    """Leave the cluster; of our own no process stays: agents of Ray outlive a node that was stopped in its work."""
    family = psutil.Process().children(recursive=True) if own else []
    ray.shutdown()
    of_ray = [each for each in family if each.is_running() and _is_of_ray(each)]
    _, left = psutil.wait_procs(of_ray, timeout=LAST_SECONDS)
    for each in left:
        with contextlib.suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(left, timeout=LAST_SECONDS)


def _is_of_ray(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "ray" in " ".join(process.cmdline())
    return False


@contextlib.contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Ray prints 20 lines of log on stdout when a node is lost, also where `log_to_driver` is off."""
    printer = ray._private.worker
    before = getattr(printer, "_worker_logs_enabled", True)
    printer._worker_logs_enabled = False
    try:
        yield
    finally:
        printer._worker_logs_enabled = before


def _answering(address: str) -> str:
    """The address, if a Ray cluster answers there soon: `ray.init` alone would try for two minutes."""
    if "://" in address or address == "local":
        raise DataError(f"RAY_ADDRESS={address}: must be host:port or auto; run on a machine of the cluster")
    if address == "auto":
        found = importlib.import_module("ray._private.services").find_bootstrap_address(None)
        if found is None:
            raise DataError(f"engine.address=auto: no Ray cluster was started on this machine; {_advice(address)}")
        address = found
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(
            f"engine.address={address}: no Ray cluster answers there within {ANSWER_SECONDS} s; {_advice(address)}"
        ) from None
    if answer.returncode:
        said = answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise DataError(f"engine.address={address}: not healthy ({said[-1]}); {_advice(address)}")
    return address


def _advice(address: str | None) -> str:
    if address is None:
        return "use engine.kind=local"
    return "start one with `ray start --head`, or leave engine.address and RAY_ADDRESS out to use this machine alone"


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """For the sockets and logs of our own cluster. Paths of sockets may have 107 characters; Ray appends about 70."""
    usual = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray-", dir=usual if len(usual) < 24 else "/tmp")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _variables(added: Mapping[str, str], removed: Collection[str]) -> Iterator[None]:
    """Environment variables for the time of a start: quiet, and the secrets are not inherited by the cluster."""
    before = {name: os.environ.pop(name) for name in (*added, *removed) if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

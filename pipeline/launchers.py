"""Where the jobs of a sweep run. Each launcher takes jobs and yields their outcomes, in whatever order they end.

Hydra's plugins are not used: they stop waiting at the first failed job, start every job again however many have
finished, and those for Ray and Optuna need versions of cloudpickle and optuna that exclude today's. The engines are the
same: joblib's loky, submitit, Ray.
"""

import contextlib
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.gpu_slots import groups
from pipeline.launchers_config import Joblib, Local, Ray
from pipeline.sweep_jobs import Job, Outcome, lost, outcome_of, run_job
from pipeline.worker import end_with

RAY_ANSWER_SECONDS = 10
"""How long the head of a Ray cluster may take to take a connection."""


def need(package: str, extra: str, launcher: str) -> None:
    """Raise ConfigError when an engine is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"hydra/launcher={launcher}: needs {package}; pip install 'provetune[{extra}]'")


def at_a_time(asked: int | None, jobs: Sequence[Job]) -> int:
    """Jobs that this machine runs together: as asked for, or one per group of GPUs, or one per core."""
    config = validate(RunConfig, jobs[0].config)
    free = len(groups(config)) if config.launch.kind != "cpu_ranks" else 0
    cores = max(1, (os.cpu_count() or 1) // config.launch.processes)
    return min(asked or free or cores, len(jobs))


def basic(_: Any, jobs: Sequence[Job], __: Path) -> Iterator[Outcome]:
    """One after the other, here."""
    for job in jobs:
        outcome = Outcome(**run_job(asdict(job)))
        yield outcome
        if outcome.status == "stopped":
            return


def joblib(launcher: Joblib, jobs: Sequence[Job], _: Path) -> Iterator[Outcome]:
    """In worker processes. loky gives up all its workers when one dies: what they held is run again, one at a time."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    waiting = {job.number: job for job in jobs}
    for job in jobs:
        (Path(job.folder) / "outcome.json").unlink(missing_ok=True)
    at_once = at_a_time(launcher.jobs, jobs)
    while waiting:
        several = max(2, at_once)  # a single worker of joblib's would be this process
        how: dict[str, Any] = {"return_as": "generator_unordered", "pre_dispatch": at_once, "batch_size": 1}
        first = {"initializer": _end_with_the_sweep, "initargs": (os.getpid(),)}
        parallel: Any = Parallel(n_jobs=several, backend="loky", **first, **how)
        try:
            for ended in parallel(delayed(run_job)(asdict(job)) for job in list(waiting.values())):
                waiting.pop(ended["number"])
                yield Outcome(**ended)
        except TerminatedWorkerError:
            yield from _after_a_death(waiting, alone=at_once == 1)
            at_once = 1


def _end_with_the_sweep(sweep: int) -> None:
    """First in each worker: loky's would finish its job and idle for minutes after its sweep was killed."""
    end_with(sweep, None)  # perhaps it is dead already, and `getppid` another


def _after_a_death(waiting: dict[int, Job], alone: bool) -> Iterator[Outcome]:
    """Take out of `waiting` what ended all the same, and what died while nothing else ran."""
    for number, job in list(waiting.items()):
        started = Path(job.folder) / "started.json"
        outcome = outcome_of(job)
        if outcome is None and started.exists():
            started.unlink()
            if alone:
                outcome = lost(job, "its process was killed; signal 9 often means out of memory")
        if outcome is not None:
            waiting.pop(number)
            yield outcome


def local(launcher: Local, jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
    """Processes of submitit's on this machine."""
    need("submitit", "slurm", "local")
    from submitit.local.local import LocalExecutor

    from pipeline.gpu_slots import visible_gpus
    from pipeline.slurm import SweepTask, follow

    executor = LocalExecutor(folder=folder / "logs" / "%j")
    gpus = [int(name) for name in visible_gpus() if name.isdigit()]
    executor.update_parameters(timeout_min=launcher.timeout_min, gpus_per_node=len(gpus), visible_gpus=gpus)

    def submit(some: Sequence[Job]) -> list[Any]:
        return [executor.submit(SweepTask(), asdict(job)) for job in some]

    def alive(running: Sequence[Any]) -> set[str]:
        return {job.job_id for job in running if job.state == "RUNNING"}

    yield from follow(jobs, submit, alive, at_a_time(launcher.jobs, jobs))


def ray(launcher: Ray, jobs: Sequence[Job], _: Path) -> Iterator[Outcome]:
    """Tasks of a Ray cluster; one whose worker died is started again by Ray, once."""
    need("ray", "ray", "ray")
    import ray as engine
    from ray.exceptions import RayError

    config = validate(RunConfig, jobs[0].config)
    gpus = config.launch.processes if config.launch.on_gpus else 0
    with _ray_cluster(launcher.address or os.environ.get("RAY_ADDRESS")):
        remote: Any = engine.remote(num_cpus=launcher.cpus, num_gpus=gpus, max_retries=1)(_in_ray)
        of = {remote.remote(asdict(job)): job for job in jobs}
        while of:
            (done,), _rest = engine.wait(list(of), num_returns=1)
            job = of.pop(done)
            try:
                yield Outcome(**engine.get(done))
            except RayError as error:
                yield lost(job, f"Ray: {_first_line(error)}")


@contextlib.contextmanager
def _ray_cluster(address: str | None) -> Iterator[None]:
    """The cluster of an address, or one on this machine; StageFailed with one line where none answers."""
    import ray as engine

    from data_prep.engines.ray_engine import short_folder

    with contextlib.ExitStack() as stack:
        told: dict[str, Any] = {"log_to_driver": True, "include_dashboard": False, "configure_logging": False}
        if not address:
            told["_temp_dir"] = str(stack.enter_context(short_folder()))
        try:
            _refuse_silent(address or "")
            engine.init(address=address or "local", **told)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise StageFailed(
                f"hydra.launcher.address={address}: no Ray cluster answers ({_first_line(error)}); `ray start`"
            ) from None
        try:
            yield
        finally:
            engine.shutdown()


def _refuse_silent(address: str) -> None:
    """OSError where nobody listens at a HOST:PORT: Ray alone would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=RAY_ANSWER_SECONDS).close()


def _in_ray(job: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("RAY_JOB_ID", "ray")  # its GPUs are Ray's to give
    return run_job(job)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def slurm(launcher: Any, jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
    """Allocations of a cluster."""
    need("submitit", "slurm", "slurm")
    from pipeline.slurm import submit_and_follow

    yield from submit_and_follow(launcher, jobs, folder)


RUN_ON: dict[str, Callable[[Any, Sequence[Job], Path], Iterator[Outcome]]] = {
    "basic": basic,
    "joblib": joblib,
    "local": local,
    "slurm": slurm,
    "ray": ray,
}
"""Kind of launcher → how it runs jobs: settings, jobs, the sweep's folder."""

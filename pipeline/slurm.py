"""The jobs of a sweep on a Slurm cluster, through submitit.

submitit learns of a job's end from its result file or from `sacct`. Clusters without accounting have no `sacct`: a
cancelled job would be waited for without end. So the queue itself is asked: a job that is neither in it nor left a
result is lost.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.launchers_config import Slurm
from pipeline.preemption import asked
from pipeline.sweep_jobs import Job, Outcome, lost, outcome_of, run_job

POLL_SECONDS = 1.0
GONE_SECONDS = 10.0
"""Time for a shared file system to show the result of a job that has left the queue."""
ANSWER_SECONDS = 30
"""How long the cluster's commands may take."""


class SweepTask:
    """What submitit runs on a node: the job; and when it is preempted, the same job again."""

    def __call__(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job. Asked to stop, it ends at a checkpoint; submitit, whose signal it was, then puts it back."""
        requeue = signal.getsignal(signal.SIGUSR2)
        ended = run_job(job)
        if ended["status"] == "stopped" and asked() != signal.SIGTERM and callable(requeue):
            requeue(signal.SIGUSR2, None)
        return ended

    def checkpoint(self, job: Mapping[str, Any]) -> Any:
        """Called by submitit on its signal: the job is put back and continues from the training's last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def submit_and_follow(launcher: Slurm, jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
    """Submit as one array per shape of allocation, and wait. Raises ConfigError or StageFailed before any job."""
    _refuse_unreachable(launcher)
    shapes: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        launch = validate(RunConfig, job.config).launch
        gpus = launch.processes // launch.nodes if launch.on_gpus else 0
        shapes.setdefault((launch.nodes, gpus), []).append(job)

    def submit(some: Sequence[Job]) -> list[Any]:
        submitted: list[Any] = []
        for (nodes, gpus), alike in shapes.items():
            chosen = [job for job in alike if job in some]
            submitted += _submit(launcher, chosen, folder, nodes, gpus)
        return submitted

    yield from follow([job for alike in shapes.values() for job in alike], submit, in_queue, len(jobs))


def _submit(launcher: Slurm, jobs: Sequence[Job], folder: Path, nodes: int, gpus: int) -> list[Any]:
    """One sbatch of an array; the jobs' ids are told."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.AutoExecutor(
        folder=folder / "logs" / "%j", cluster="slurm", slurm_max_num_timeout=launcher.max_timeouts
    )
    options = {
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "setup": launcher.setup or None,
        "additional_parameters": launcher.additional_parameters or None,
    }
    executor.update_parameters(
        name="provetune",
        nodes=nodes,
        tasks_per_node=1,
        timeout_min=launcher.timeout_min,
        cpus_per_task=launcher.cpus_per_task,
        slurm_array_parallelism=launcher.jobs,
        slurm_signal_delay_s=launcher.signal_delay_s,
        **({"mem_gb": launcher.mem_gb} if launcher.mem_gb else {}),
        **({"gpus_per_node": gpus} if gpus else {}),
        **{f"slurm_{name}": value for name, value in options.items() if value is not None},
    )
    try:
        submitted = executor.map_array(SweepTask(), [asdict(job) for job in jobs])
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise StageFailed(f"hydra/launcher=slurm: sbatch refused the jobs: {_reason(error)}") from None
    for job, one in zip(jobs, submitted, strict=True):
        print(f"submitted {one.job_id}: {' '.join(part.lstrip('+') for part in job.overrides)}", flush=True)
    return submitted


def follow(
    jobs: Sequence[Job],
    submit: Callable[[Sequence[Job]], list[Any]],
    alive: Callable[[Sequence[Any]], set[str]],
    most: int,
) -> Iterator[Outcome]:
    """Keep `most` jobs submitted and yield each one's outcome when it has ended, or has vanished."""
    waiting, running, missed = list(jobs), {}, {}
    for job in jobs:
        (Path(job.folder) / "outcome.json").unlink(missing_ok=True)
    while waiting or running:
        room = most - len(running)
        if waiting and room > 0:
            some, waiting = waiting[:room], waiting[room:]
            running |= {one.job_id: (one, job) for one, job in zip(submit(some), some, strict=True)}
        time.sleep(POLL_SECONDS)
        living = alive([one for one, _ in running.values()])
        for key, (one, job) in list(running.items()):
            if key in living:
                missed.pop(key, None)
                continue
            missed.setdefault(key, time.monotonic())
            outcome = outcome_of(job)
            if outcome is None and time.monotonic() - missed[key] >= GONE_SECONDS:
                outcome = lost(job, f"job {key} was cancelled or killed (logs: {one.paths.folder})")
            if outcome is not None:
                del running[key]
                yield outcome


def in_queue(running: Sequence[Any]) -> set[str]:
    """Ids of those jobs that Slurm still has in its queue, waiting or running."""
    first = sorted({one.job_id.split("_")[0] for one in running})
    command = ["squeue", "--noheader", "--array", "--format=%i %t", f"--jobs={','.join(first)}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {one.job_id for one in running}  # a busy controller: nobody is declared dead for that
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return {one.job_id for one in running}
    return {line.split()[0] for line in answer.stdout.splitlines() if line.strip()}


def requeue_own_allocation() -> str | None:
    """Put this process's own allocation back into the queue after SIGUSR1 or SIGUSR2 (`sbatch --signal=B:USR1@120`).

    What was done, in words; None where there is nothing to do: no allocation, SIGTERM (Slurm itself decides then), a
    job of submitit's, a node that is not the first.
    """
    job = os.environ.get("SLURM_JOB_ID")
    others = "SUBMITIT_EXECUTOR" in os.environ or os.environ.get("SLURM_NODEID", "0") != "0"
    if job is None or others or asked() in (None, signal.SIGTERM):
        return None
    answer = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
    )
    return f"job {job} could not be put back: {_last(answer.stderr)}" if answer.returncode else f"job {job} is put back"


def _refuse_unreachable(launcher: Slurm) -> None:
    """Say at once what sbatch would say late or in many words."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ConfigError("hydra/launcher=slurm: no sbatch on this machine; start on a login node of the cluster")
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StageFailed(f"hydra/launcher=slurm: the controller did not answer within {ANSWER_SECONDS} s") from None
    if answer.returncode:
        raise StageFailed(f"hydra/launcher=slurm: the cluster cannot be reached ({_last(answer.stderr)}); try `sinfo`")
    known = sorted(set(answer.stdout.split()))
    if launcher.partition is not None and launcher.partition not in known:
        raise ConfigError(
            f"hydra.launcher.partition: '{launcher.partition}' does not exist; there are: {', '.join(known)}"
        )


def _reason(error: BaseException) -> str:
    """The line of sbatch's answer that says why."""
    told = getattr(error, "stderr", None) or str(error)
    told = told.decode(errors="replace") if isinstance(told, bytes) else told
    lines = [line for line in told.splitlines() if "error:" in line]
    return lines[-1].split("error:", 1)[1].strip() if lines else _last(told)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"

"""Jobs of a real Slurm that die in every way; nothing is lost, trained twice, or left behind."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.engine.under_fire import refuse_stale_locks
from tests.slurm.test_slurm import finish, log_of, slurm_call, start, steps_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

LONG = ("+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=400", "stages.sft.validate_every=null")
KINDS = ("scancel", "process of the job", "node", "sweep")


def processes(outputs: Path, word: str) -> list[psutil.Process]:
    """Processes of the job that works on these outputs; ours is not among them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if word in line and str(outputs) in line:
            found.append(process)
    return found


@pytest.mark.timeout(1800)
def test_whatever_kills_a_job_the_same_command_ends_at_the_same_losses(slurm: dict[str, str], tmp_path: Path) -> None:
    """In random order: scancel, SIGKILL of the job's process, its node set down, SIGKILL of the waiting sweep."""
    outputs = tmp_path / "cut"
    sealed: dict[Path, int] = {}
    for kind in random.Random(5).sample(KINDS, len(KINDS)):
        before = steps_of(outputs)
        sweep = start(slurm, outputs, *LONG, "stages.sft.checkpoint_every=10")
        assert sweep.stdout is not None
        job = sweep.stdout.readline().split()[1].rstrip(":")
        wait_for(lambda least=before: steps_of(outputs) > least + 12, 240)
        if kind == "scancel":
            slurm_call(slurm, "scancel", job)
        elif kind == "process of the job":
            for process in processes(outputs, "submitit.core._submit"):
                process.send_signal(signal.SIGKILL)
        elif kind == "node":
            node = slurm_call(slurm, "squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()
            slurm_call(slurm, "scontrol", "update", f"nodename={node}", "state=down", "reason=test")
            slurm_call(slurm, "scancel", job)
            slurm_call(slurm, "scontrol", "update", f"nodename={node}", "state=resume")
        else:
            os.kill(sweep.pid, signal.SIGKILL)
            slurm_call(slurm, "scancel", job)
        out = finish(sweep, 240)
        assert sweep.returncode == (-9 if kind == "sweep" else 4), (kind, out)
        wait_for(lambda: slurm_call(slurm, "squeue", "--noheader") == "")
        wait_for(lambda: not processes(outputs, "pipeline.worker") and not processes(outputs, "submitit"), 60)
        refuse_stale_locks(outputs)
        done = {file: file.stat().st_mtime_ns for file in outputs.glob("artifacts/*/*/done.json")}
        assert sealed.items() <= done.items()
        sealed = done
    sweep = start(slurm, outputs, *LONG, "stages.sft.checkpoint_every=10")
    out = finish(sweep, 300)
    assert sweep.returncode == 0, out
    command = [sys.executable, "-m", "pipeline", *LONG, "run_id=one", f"outputs={tmp_path / 'one'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (cut,) = (outputs / "runs").glob("smoke-*/report.json")
    assert log_of(cut.parent) == log_of(tmp_path / "one" / "runs" / "one")

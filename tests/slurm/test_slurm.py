"""Sweeps and runs on a real Slurm of two nodes: cancelled jobs, preemption, ranks on two nodes."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

QUICK = ("+experiment=smoke", "stages.evaluate.generation=null", "stages.evaluate.perplexity.max_rows=16")


def start(slurm: dict[str, str], outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline", "-m", *overrides, "hydra/launcher=slurm", f"outputs={outputs}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | slurm
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 200) -> str:
    out, _ = process.communicate(timeout=seconds)
    return out


def jobs_of(outputs: Path) -> dict[int, dict]:
    (file,) = (outputs / "sweeps").glob("*/sweep.json")
    return {job["number"]: job for job in json.loads(file.read_text(encoding="utf-8"))["jobs"]}


def wait_for(found, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return value


def slurm_call(slurm: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | slurm, check=True, timeout=60
    ).stdout


def steps_of(outputs: Path) -> int:
    files = list((outputs / "artifacts" / "sft.train").glob("*/checkpoints/steps.jsonl"))
    return max((len(file.read_text(encoding="utf-8").splitlines()) for file in files), default=0)


def log_of(run: Path) -> list[dict]:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return [{key: step[key] for key in ("step", "loss")} for step in report["training"]["sft"]["steps"]]


def test_a_cancelled_job_is_listed_and_made_up_for(slurm: dict[str, str], tmp_path: Path) -> None:
    """A 2×2 sweep; one job is cancelled with scancel, the others go on; the same command runs only that one."""
    sweep = (*QUICK, "stages.sft.learning_rate=1e-3,2e-3", "seed=1,2", "stages.sft.max_steps=4")
    process = start(slurm, tmp_path, *sweep)
    assert process.stdout is not None
    ids = [process.stdout.readline().split()[1].rstrip(":") for _ in range(4)]
    slurm_call(slurm, "scancel", ids[3])
    out = finish(process)
    assert process.returncode == 4, out
    jobs = jobs_of(tmp_path)
    assert [jobs[number]["status"] for number in range(4)] == ["ran", "ran", "ran", "lost"], out
    assert f"error: job {ids[3]} was cancelled or killed (logs: " in out and "1 of 4 jobs have not succeeded" in out
    assert len(list((tmp_path / "artifacts" / "filter").glob("*/done.json"))) == 1, "one filter for all jobs"
    assert slurm_call(slurm, "squeue", "--noheader") == ""
    process = start(slurm, tmp_path, *sweep)
    out = finish(process)
    assert process.returncode == 0, out
    jobs = jobs_of(tmp_path)
    assert [jobs[number]["status"] for number in range(4)] == ["cached", "cached", "cached", "ran"]
    assert out.count("submitted ") == 1, "finished jobs are not submitted again"
    assert len(list((tmp_path / "artifacts" / "sft.train").glob("*/done.json"))) == 4


def test_what_the_cluster_refuses_is_one_line(slurm: dict[str, str], tmp_path: Path) -> None:
    sweep = ("+experiment=smoke", "seed=1,2")
    process = start(slurm, tmp_path, *sweep, "hydra.launcher.partition=gpus")
    out = finish(process)
    assert process.returncode == 2
    assert out == "error: hydra.launcher.partition: 'gpus' does not exist; there are: main\n"
    process = start(slurm, tmp_path, *sweep, "hydra.launcher.additional_parameters={time: never}")
    out = finish(process)
    assert process.returncode == 4 and "sbatch refused the jobs: " in out and "Traceback" not in out, out
    broken = slurm | {"SLURM_CONF": str(tmp_path / "none.conf")}
    process = start(broken, tmp_path, *sweep)
    out = finish(process)
    told = (
        "error: hydra/launcher=slurm: the cluster cannot be reached",
        "error: hydra/launcher=slurm: the controller did",
    )
    assert process.returncode == 4 and out.startswith(told) and out.count("\n") == 1, out


TWO_NODES = ("launch=cpu_ranks", "launch.processes=2", "launch.nodes=2", "launch.node_address=127.0.0.1")


def test_one_run_trains_on_two_nodes(slurm: dict[str, str], tmp_path: Path) -> None:
    """2 nodes × 1 rank end at the losses of one process."""
    short = ("+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=4", "stages.sft.validate_every=null")
    process = start(slurm, tmp_path / "two", *short, *TWO_NODES)
    out = finish(process, 150)
    assert process.returncode == 0, out
    ranks = {file.name for file in (tmp_path / "two").glob("artifacts/sft.train/*/logs/rank*.log")}
    assert ranks == {"rank0.log", "rank1.log"}
    (nodes,) = (tmp_path / "two" / "runs").glob("smoke-*/nodes")
    assert {file.name for file in nodes.glob("hello-*.json")} == {"hello-0.json", "hello-1.json"}
    command = [sys.executable, "-m", "pipeline", *short, "run_id=one", f"outputs={tmp_path / 'one'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    (two,) = (tmp_path / "two" / "runs").glob("smoke-*/report.json")
    ours, alone = log_of(two.parent), log_of(tmp_path / "one" / "runs" / "one")
    assert [step["step"] for step in ours] == [step["step"] for step in alone]
    assert [step["loss"] for step in ours] == pytest.approx([step["loss"] for step in alone], abs=1e-5)


def test_a_preempted_job_is_put_back_and_ends_at_the_same_loss(slurm: dict[str, str], tmp_path: Path) -> None:
    """Slurm's signal before a time limit or a preemption: a checkpoint, back into the queue, and on from there."""
    long = ("+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=150", "stages.sft.validate_every=null")
    process = start(slurm, tmp_path / "cut", *long, "stages.sft.checkpoint_every=1000")
    assert process.stdout is not None
    job = process.stdout.readline().split()[1].rstrip(":")
    wait_for(lambda: steps_of(tmp_path / "cut") >= 12)
    slurm_call(slurm, "scancel", "--signal=USR2", job)
    out = finish(process, 240)
    assert process.returncode == 0, out
    logs = "".join(file.read_text(errors="replace") for file in (tmp_path / "cut").glob("sweeps/*/logs/*/*.err"))
    assert "Caught signal SIGUSR2" in logs and "this job is preempted" in logs
    told = "".join(file.read_text(errors="replace") for file in (tmp_path / "cut").glob("sweeps/*/logs/*/*.out"))
    assert re.search(r"sft/train: stopped by SIGUSR2 with a checkpoint of step \d+", told), told
    (cut,) = (tmp_path / "cut" / "runs").glob("smoke-*/report.json")
    stages = json.loads(cut.read_text(encoding="utf-8"))["stages"]
    assert {stage["name"]: stage["outcome"] for stage in stages}["sft/train"] == "resumed"
    command = [sys.executable, "-m", "pipeline", *long, "run_id=one", f"outputs={tmp_path / 'one'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert log_of(cut.parent) == log_of(tmp_path / "one" / "runs" / "one")


def test_two_preempted_nodes_are_put_back_together(slurm: dict[str, str], tmp_path: Path) -> None:
    """2 nodes × 1 rank: both stop at one checkpoint, the allocation is requeued, and every step is made once."""
    long = ("+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=80", "stages.sft.validate_every=null")
    process = start(slurm, tmp_path, *long, *TWO_NODES, "stages.sft.checkpoint_every=1000")
    assert process.stdout is not None
    job = process.stdout.readline().split()[1].rstrip(":")
    wait_for(lambda: steps_of(tmp_path) >= 5)
    slurm_call(slurm, "scancel", "--signal=USR2", job)
    out = finish(process, 400)
    assert process.returncode == 0, out
    (run,) = (tmp_path / "runs").glob("smoke-*/report.json")
    stages = json.loads(run.read_text(encoding="utf-8"))["stages"]
    assert {stage["name"]: stage["outcome"] for stage in stages}["sft/train"] == "resumed"
    assert [step["step"] for step in log_of(run.parent)] == list(range(1, 81))
    told = "".join(file.read_text(errors="replace") for file in tmp_path.glob("sweeps/*/logs/*/*.out"))
    assert len(re.findall(r"stopped by SIGUSR2 with a checkpoint of step \d+", told)) == 2, told


def test_a_script_of_ones_own_is_put_back_too(slurm: dict[str, str], tmp_path: Path) -> None:
    """`python -m pipeline` in a batch script, told by `--signal=B:USR1@…`: it requeues its own allocation."""
    long = ["+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=80", "stages.sft.validate_every=null"]
    command = [sys.executable, "-m", "pipeline", *long, "stages.sft.checkpoint_every=1000", f"outputs={tmp_path}"]
    script = tmp_path / "job.sh"
    line = " ".join(f"'{part}'" for part in command)
    script.write_text(f"#!/bin/sh\nexec {line}\n", encoding="utf-8")
    log = tmp_path / "job.log"
    submit = ["sbatch", "--parsable", "--requeue", "--open-mode=append", f"--output={log}", str(script)]
    job = slurm_call(slurm, *submit).strip()
    wait_for(lambda: steps_of(tmp_path) >= 5)
    slurm_call(slurm, "scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: list(tmp_path.glob("artifacts/sft.train/*/done.json")), 400)
    wait_for(lambda: slurm_call(slurm, "squeue", "--noheader") == "")
    told = log.read_text(encoding="utf-8")
    assert re.search(r"stopped by SIGUSR1 with a checkpoint of step \d+; the same command continues", told), told
    assert f"job {job} is put back" in told and "resumed" in told

"""Processes: no orphans, whoever is killed; the launch commands of ranks."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.config import LaunchConfig
from pipeline.launch import rank_command, worker_environment
from tests.conftest import run_pipeline

LONG = ["+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=3000", "stages.sft.validate_every=null"]
TWO = ["launch=cpu_ranks", "launch.processes=2"]


def test_cpu_ranks_go_through_torchrun_and_gpus_through_accelerate() -> None:
    cpu = rank_command(LaunchConfig(kind="cpu_ranks", processes=2), Path("/x y"))
    assert cpu[1:4] == ["-m", "pipeline.launched", "torch.distributed.run"]
    assert cpu[-3:] == ["-m", "pipeline.worker", "/x y"]
    assert cpu[cpu.index("--nproc-per-node") + 1] == "2" and cpu[cpu.index("--max-restarts") + 1] == "0"
    gpus = rank_command(LaunchConfig(kind="ddp", processes=8), Path("/x"))
    assert "accelerate.commands.launch" in gpus
    assert gpus[gpus.index("--config_file") + 1] == "/x/logs/accelerate.yaml"


def test_an_outer_launcher_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")
    monkeypatch.delenv("OMP_NUM_THREADS")
    environment = worker_environment(2)
    assert not {"RANK", "MASTER_ADDR"} & set(environment)
    assert int(environment["OMP_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // 2)


class Training:
    """A long training in its own process group, as a terminal would start it."""

    def __init__(self, outputs: Path, *overrides: str):
        command = [sys.executable, "-m", "pipeline", *LONG, *overrides, f"outputs={outputs}"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.outputs = outputs
        self.wait_for(
            lambda: any(log.stat().st_size for log in outputs.glob("artifacts/sft.train/*/checkpoints/steps.jsonl"))
        )
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def wait_for(self, due: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not due():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def worker(self) -> psutil.Process:
        """The process that trains; beside it runs the energy meter."""
        return next(child for child in self.family if "pipeline.worker" in child.cmdline())

    def ranks(self) -> list[psutil.Process]:
        return [child for child in self.family if "RANK" in child.environ() and "pipeline.worker" in child.cmdline()]

    def survivors(self) -> list[psutil.Process]:
        return psutil.wait_procs(self.family, timeout=3)[1]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize("launch", [[], TWO], ids=["one process", "two ranks"])
def test_a_killed_parent_leaves_no_orphans(tmp_path: Path, launch: list[str]) -> None:
    training = Training(tmp_path, *launch)
    assert len(training.family) >= (1 if not launch else 3)
    training.process.kill()  # not waited for: a zombie parent is dead too
    assert not alive(psutil.wait_procs(training.family, timeout=30)[1])
    training.process.communicate()


WAITING = """
import subprocess, sys
from pathlib import Path
from pipeline.config import LaunchConfig
from pipeline.launch import worker_environment
from pipeline.node_runner import node_command

launch = LaunchConfig(kind="cpu_ranks", processes=2, nodes=2)
command = node_command(launch, 0, {"address": "127.0.0.1", "port": sys.argv[1]}, Path(sys.argv[2]))
print(subprocess.Popen(command, env=worker_environment()).pid, flush=True)
sys.stdin.read()
"""
"""A node 0 whose launcher waits for a node 1 that does not come."""


def test_a_launcher_that_waits_for_another_node_ends_with_its_run(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run = subprocess.Popen(
        [sys.executable, "-c", WAITING, port, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    launcher = psutil.Process(int(run.stdout.readline()))
    deadline = time.monotonic() + 60
    while not any(each.laddr.port == int(port) for each in launcher.net_connections()):
        assert launcher.is_running() and time.monotonic() < deadline
        time.sleep(0.1)
    run.kill()
    assert not alive(psutil.wait_procs([launcher], timeout=20)[1])
    run.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("launch", [[], TWO], ids=["one process", "two ranks"])
def test_ctrl_c_stops_everything_and_the_next_run_continues(tmp_path: Path, launch: list[str]) -> None:
    training = Training(tmp_path, *launch, "stages.sft.checkpoint_every=20")
    training.wait_for(lambda: any(tmp_path.glob("artifacts/sft.train/*/checkpoints/checkpoint-*/complete.json")))
    training.family = psutil.Process(training.process.pid).children(recursive=True)
    os.killpg(training.process.pid, signal.SIGINT)
    out, err = training.process.communicate(timeout=10)
    assert training.process.returncode == 130
    assert err.strip() == "stopped; the same command continues from the last checkpoint"
    assert "Traceback" not in out + err
    assert not alive(training.survivors())
    plan = run_pipeline(tmp_path, *LONG, "mode=plan")
    assert "resume" in plan.out


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named_and_stops_the_others(tmp_path: Path, victim: int) -> None:
    training = Training(tmp_path, *TWO)
    rank = next(child for child in training.ranks() if child.environ()["RANK"] == str(victim))
    started = time.monotonic()
    rank.kill()
    _, err = training.process.communicate(timeout=60)
    assert time.monotonic() - started < 15
    assert training.process.returncode == 4
    assert err.startswith(f"error: sft/train: rank {victim} (process {rank.pid}) was killed by signal 9"), err
    assert err.count("\n") == 1 and "the others were stopped" in err
    assert not alive(training.survivors())


@pytest.mark.slow
def test_a_killed_worker_is_told(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.worker().kill()
    _, err = training.process.communicate(timeout=60)
    assert training.process.returncode == 4
    assert err.startswith("error: sft/train: a worker was killed by signal 9; signal 9 often means out of memory"), err
    assert err.count("\n") == 1

"""Several nodes: they come together, differ, come late, die; on loopback, each "node" a pipeline of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.config import LaunchConfig
from pipeline.errors import ConfigError, StageFailed
from pipeline.node_runner import node_command
from pipeline.nodes import Nodes, rank_of

QUICK = (
    "+experiment=smoke",
    "run=[filter,sft]",
    "launch=cpu_ranks",
    "launch.processes=2",
    "launch.nodes=2",
    "launch.node_address=127.0.0.1",
    "launch.node_timeout=5",
    "stages.sft.validate_every=null",
)


def settings(rank: int, **others) -> LaunchConfig:
    values = {"kind": "cpu_ranks", "processes": 2, "nodes": 2, "node_rank": rank, "node_wait": 10.0} | others
    return LaunchConfig(**values)


def together(folder: Path, first: Nodes, second: Nodes) -> list[BaseException | None]:
    """Both enter, each on a thread; what each raised."""
    errors: list[BaseException | None] = [None, None]

    def enter(place: int, nodes: Nodes) -> None:
        try:
            nodes.__enter__()
        except BaseException as error:
            errors[place] = error

    threads = [threading.Thread(target=enter, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return errors


def test_nodes_come_together_whatever_an_earlier_try_left(tmp_path: Path) -> None:
    stale = {"host": "old", "nonce": "old", "count": 7, "identity": {"code": "old"}}
    (tmp_path / "hello-1.json").write_text(json.dumps(stale), encoding="utf-8")
    (tmp_path / "session.json").write_text(
        json.dumps({"session": "gone", "nonces": {"1": "old"}, "refused": None, "hosts": {}}), encoding="utf-8"
    )
    first, second = Nodes(settings(0), tmp_path, {"code": "a"}), Nodes(settings(1), tmp_path, {"code": "a"})
    assert together(tmp_path, first, second) == [None, None]
    assert first.session == second.session != tmp_path / "gone"
    first.tell("passed-0")
    assert second.wait_for("passed-0", "start-0") == ("passed-0", {})
    second.fail("no space left")
    with pytest.raises(StageFailed, match=r"node 1 \(.+\) stopped: no space left"):
        first.wait_for("never")
    for nodes in (first, second):
        nodes.__exit__(None, None, None)


def test_a_node_with_other_code_is_refused_and_named_on_both(tmp_path: Path) -> None:
    first, second = Nodes(settings(0), tmp_path, {"git commit": "a"}), Nodes(settings(1), tmp_path, {"git commit": "b"})
    errors = together(tmp_path, first, second)
    for error in errors:
        assert isinstance(error, ConfigError)
        assert re.match(r"node 1 \(.+\): git commit is b, on node 0 \(.+\) a; all nodes need the same code", str(error))


@pytest.mark.end_to_end
def test_a_node_that_never_comes_is_named(tmp_path: Path) -> None:
    (tmp_path / "hello-1.json").write_text('{"host": "x", "nonce": "n", "count": 1, "identity": {}}', encoding="utf-8")
    with pytest.raises(StageFailed, match=r"nodes \[1\] have not come within 1 s \(launch.node_wait\); are they"):
        Nodes(settings(0, node_wait=1.0), tmp_path, {}).__enter__()
    with pytest.raises(StageFailed, match=r"nodes \[0\] have not come within 1 s"):
        Nodes(settings(1, node_wait=1.0), tmp_path, {}).__enter__()


@pytest.mark.end_to_end
def test_a_silent_node_is_dead_by_the_readers_own_clock(tmp_path: Path) -> None:
    launch = {"node_timeout": 2.0}
    first, second = Nodes(settings(0, **launch), tmp_path, {}), Nodes(settings(1, **launch), tmp_path, {})
    assert together(tmp_path, first, second) == [None, None]
    first.check()
    second._stop.set()
    for file in tmp_path.glob("hello-1.json"):  # a clock far ahead on that node changes nothing
        os.utime(file, (time.time() + 9999, time.time() + 9999))
    with pytest.raises(StageFailed, match=r"node 1 \(.+\) has given no sign of life for 2 s; start the same command"):
        first.wait_for("never")
    first.__exit__(None, None, None)


def test_who_this_node_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    with pytest.raises(ConfigError, match="launch.node_rank: not set; give each of the 2 nodes its number"):
        rank_of(LaunchConfig(kind="cpu_ranks", processes=2, nodes=2))
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert rank_of(LaunchConfig(kind="cpu_ranks", processes=2, nodes=2)) == 1
    for bad in ({"nodes": 3}, {"node_rank": 2}, {"kind": "single", "processes": 2}):
        with pytest.raises(ValueError):
            settings(0, **bad) if "node_rank" not in bad else settings(2)


def test_the_command_of_a_share() -> None:
    meeting = {"address": "n1", "port": 5}
    gpus = " ".join(node_command(settings(1, kind="ddp", processes=16), 1, meeting, Path("/x")))
    assert "--num_processes 16" in gpus and "--num_machines 2 --machine_rank 1 --main_process_ip n1" in gpus
    cpu = " ".join(node_command(settings(1, processes=4), 1, meeting, Path("/x")))
    assert "--nnodes 2 --node-rank 1 --master-addr n1 --master-port 5 --nproc-per-node 2" in cpu


def start(outputs: Path, rank: int, *overrides: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline", *QUICK, *overrides, f"launch.node_rank={rank}", f"outputs={outputs}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ended(process: "subprocess.Popen[str]", seconds: float = 150) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def losses(outputs: Path) -> list[float]:
    (file,) = (outputs / "artifacts" / "sft.train").glob("*/steps.jsonl")
    return [json.loads(line)["loss"] for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.end_to_end
def test_two_nodes_train_as_two_ranks_of_one(tmp_path: Path) -> None:
    """Also: the second node comes late; started again, everything is cached."""
    steps = "stages.sft.max_steps=4"
    processes = [start(tmp_path / "two", 0, "run_id=x", steps)]
    time.sleep(4)
    processes.append(start(tmp_path / "two", 1, "run_id=x", steps))
    ends = [ended(process) for process in processes]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "this node's share" in ends[1][1] and "Report  " in ends[0][1]
    one = start(tmp_path / "one", 0, "launch.nodes=1", steps)
    assert ended(one)[0] == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-6)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_node_that_dies_in_training_stops_the_others_by_name_and_the_run_continues(tmp_path: Path) -> None:
    overrides = ("run_id=x", "stages.sft.max_steps=400", "stages.sft.checkpoint_every=5")
    processes = [start(tmp_path, rank, *overrides) for rank in (0, 1)]
    deadline = time.monotonic() + 120
    while not list((tmp_path / "artifacts").glob("sft.train/*/checkpoints/checkpoint-*/complete.json")):
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.1)
    os.killpg(processes[1].pid, signal.SIGKILL)
    killed = time.monotonic()
    code, out, err = ended(processes[0])
    assert code == 4 and time.monotonic() - killed < 60
    assert re.search(r"error: sft/train: node 1 \(.+\) has given no sign of life for 5 s; start the same", err), (
        out + err
    )
    processes[1].communicate(timeout=20)
    processes = [start(tmp_path, rank, *overrides) for rank in (0, 1)]
    ends = [ended(process, 300) for process in processes]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "resumed" in ends[0][1] and len(losses(tmp_path)) == 400

"""Nodes on machines of their own: network namespaces with a cable between them, which is cut; clocks that differ."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.node_network import INTERFACE, interface_towards, network_environment, unreachable
from tests.engine import namespaces
from tests.engine.namespaces import Machine, two_machines
from tests.engine.test_launch import alive
from tests.engine.test_nodes import ended, losses

RUN = ("+experiment=smoke", "run=[filter,sft]", "run_id=x", "stages.sft.validate_every=null")
FOUR = ("launch=cpu_ranks", "launch.processes=4")
NODES = (*FOUR, "launch.nodes=2", "launch.node_timeout=15", "launch.hang_timeout=20")


def test_the_interface_towards_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERFACE, raising=False)
    loopback = next(
        name for name, known in psutil.net_if_addrs().items() if "127.0.0.1" in [one.address for one in known]
    )
    assert interface_towards("127.0.0.1") == loopback == network_environment("localhost")[INTERFACE]
    assert interface_towards("no.such.host.invalid") is None and network_environment("no.such.host.invalid") == {}
    monkeypatch.setenv(INTERFACE, "eth7")
    assert network_environment("127.0.0.1") == {}, "what is set outside holds"


def test_who_answers_can_be_reached() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.listen()
        assert unreachable("127.0.0.1", port) is None
    assert unreachable("127.0.0.1", port) is None, "refused, so its machine is there"
    assert unreachable("no.such.host.invalid", 1)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two of them; skipped where there can be none."""
    if why := namespaces.missing():
        pytest.skip(f"no network namespaces: {why}")
    with two_machines() as pair:
        yield pair


@pytest.fixture
def prepared(copied: Path) -> Path:
    """Outputs in which everything but the training is there."""
    shutil.rmtree(copied / "artifacts" / "sft.train")
    return copied


def start(prefix: list[str], outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    command = [*prefix, sys.executable, "-m", "pipeline", *RUN, *overrides, f"outputs={outputs}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def on(pair: tuple[Machine, Machine], rank: int, outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    where = (f"launch.node_address={pair[0].address}", f"launch.node_rank={rank}")
    return start(pair[rank].prefix, outputs, *NODES, *where, *overrides)


def wait_until_trains(outputs: Path, processes: "list[subprocess.Popen[str]]") -> None:
    deadline = time.monotonic() + 240
    while not any(log.stat().st_size for log in outputs.glob("artifacts/sft.train/*/checkpoints/steps.jsonl")):
        assert time.monotonic() < deadline
        assert all(one.poll() is None for one in processes), [one.communicate() for one in processes if one.poll()]
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_two_machines_train_as_one_and_the_second_may_be_late(
    prepared: Path, tmp_path: Path, machines: tuple[Machine, Machine]
) -> None:
    """2 × 2 ranks over the cable against 4 ranks of one machine, and against a single process."""
    steps = "stages.sft.max_steps=4"
    alike = {name: Path(shutil.copytree(prepared, tmp_path / name, symlinks=True)) for name in ("four", "one")}
    processes = [on(machines, 0, prepared, steps)]
    time.sleep(5)
    processes.append(on(machines, 1, prepared, steps))
    ends = [ended(process, 300) for process in processes]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ended(start([], alike["four"], steps, *FOUR), 300)[0] == 0
    assert ended(start([], alike["one"], steps), 300)[0] == 0
    assert losses(prepared) == losses(alike["four"])
    assert losses(prepared) == pytest.approx(losses(alike["one"]), abs=1e-5)


CUT = r"node 1 \(.+\) cannot reach node 0 at 10\.213\.77\.1:\d+ \(.+\); look at the network between them \(launch.node_"


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("end", [0, 1], ids=["at node 0", "at node 1"])
def test_a_cut_cable_is_named_on_both_nodes(prepared: Path, machines: tuple[Machine, Machine], end: int) -> None:
    pair = [on(machines, rank, prepared, "stages.sft.max_steps=4000") for rank in (0, 1)]
    wait_until_trains(prepared, pair)
    family = [child for one in pair for child in psutil.Process(one.pid).children(recursive=True)]
    machines[end].cable("down")
    ends = [ended(one) for one in pair]
    assert [code for code, _, _ in ends] == [4, 4], ends
    assert re.search(rf"error: sft/train: node 1 \(.+\) stopped: {CUT}", ends[0][2]), ends
    assert re.search(rf"error: {CUT}", ends[1][2]) and ends[1][2].count("\n") == 1, ends
    assert not alive(psutil.wait_procs(family, timeout=20)[1]), "nothing is left hanging"


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_machine_without_power_is_named_and_the_run_continues(
    prepared: Path, machines: tuple[Machine, Machine]
) -> None:
    """No connection is closed and no signal arrives: the other node is only never heard of again."""
    overrides = ("stages.sft.max_steps=60", "stages.sft.checkpoint_every=2")
    pair = [on(machines, rank, prepared, *overrides) for rank in (0, 1)]
    wait_until_trains(prepared, pair)
    machines[1].cable("down")
    family = psutil.Process(pair[0].pid).children(recursive=True)
    for process in [*psutil.Process(pair[1].pid).children(recursive=True), pair[1]]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    code, out, err = ended(pair[0])
    pair[1].communicate(timeout=20)
    assert code == 4 and re.search(r"sft/train: node 1 \(.+\) has given no sign of life for 15 s; start the", err), err
    assert not alive(psutil.wait_procs(family, timeout=20)[1])
    machines[1].cable("up")
    ends = [ended(one, 300) for one in [on(machines, rank, prepared, *overrides) for rank in (0, 1)]]
    assert [code for code, _, _ in ends] == [0, 0] and len(losses(prepared)) == 60, (out, ends)


@pytest.fixture
def skewed(tmp_path: Path) -> list[str]:
    """What stands before a command whose wall clock is SKEW_SECONDS off."""
    compiler, library = shutil.which("cc"), tmp_path / "skewed_clock.so"
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    source = Path(__file__).with_name("skewed_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return ["env", f"LD_PRELOAD={library}"]


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_minutes_off_is_no_fault(
    prepared: Path, tmp_path: Path, skewed: list[str], minutes: int
) -> None:
    """The barrier, the heartbeats of the node and of its ranks, and the losses: none looks at another one's clock."""
    alone = Path(shutil.copytree(prepared, tmp_path / "alone", symlinks=True))
    two = ("launch=cpu_ranks", "launch.processes=2")
    steps = "stages.sft.max_steps=40"
    both = (
        *two,
        "launch.nodes=2",
        "launch.node_address=127.0.0.1",
        "launch.node_timeout=10",
        "launch.hang_timeout=120",
        "launch.node_wait=60",
    )
    pair = [start([], prepared, *both, "launch.node_rank=0", steps)]
    pair.append(start([*skewed, f"SKEW_SECONDS={60 * minutes}"], prepared, *both, "launch.node_rank=1", steps))
    ends = [ended(one, 300) for one in pair]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "no sign of life" not in ends[0][1], "not even a warning"
    (events,) = prepared.glob("artifacts/sft.train/*/logs/events.jsonl")
    ends_by_rank = [
        json.loads(line) for line in events.read_text(encoding="utf-8").splitlines() if '"done", "time"' in line
    ]
    apart = {event["rank"]: event["time"] for event in ends_by_rank}
    assert apart[1] - apart[0] == pytest.approx(60 * minutes, abs=60), "the clocks did differ"
    assert ended(start([], alone, *two, steps), 300)[0] == 0
    assert losses(prepared) == losses(alone)

"""Several nodes on a bad day: deaths at every stage boundary, files that appear late, signals."""

import json
import os
import re
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import nodes as nodes_module
from pipeline.contract import Node, Output
from pipeline.errors import Preempted, StageFailed
from pipeline.node_runner import await_visible
from pipeline.nodes import Nodes
from pipeline.progress import EventReader
from tests.engine.test_nodes import ended, losses, settings, start, together


@dataclass
class Meeting:
    """Two nodes that have come together."""

    folder: Path
    launch: dict[str, float] = field(default_factory=lambda: {"node_timeout": 2.0})

    def __enter__(self) -> tuple[Nodes, Nodes]:
        first, second = (Nodes(settings(rank, **self.launch), self.folder, {}) for rank in (0, 1))
        self.pair = (first, second)
        assert together(self.folder, *self.pair) == [None, None]
        return self.pair

    def __exit__(self, *_: object) -> None:
        for one in self.pair:
            one._stop.set()


STEPS = 4


@pytest.mark.parametrize("boundary", range(STEPS))
def test_a_node_that_dies_at_a_boundary_is_named_by_the_one_that_waits(tmp_path: Path, boundary: int) -> None:
    """Node 0 falls silent after the order of each step in turn; node 1, whatever it waits for next, stops by name."""
    with Meeting(tmp_path) as (first, second):
        for step in range(boundary):
            first.tell(f"passed-{step}")
        for step in range(boundary):
            assert second.wait_for(f"passed-{step}", f"start-{step}") == (f"passed-{step}", {})
        first._stop.set()
        with pytest.raises(StageFailed, match=r"node 0 \(.+\) has given no sign of life for 2 s; start the same comm"):
            second.wait_for(f"passed-{boundary}", f"start-{boundary}")


def test_orders_that_become_visible_late_are_no_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read sees the disk as it was a second ago, as with cached attributes: nobody is declared dead for it."""
    seen: dict[Path, list[tuple[float, object]]] = {}
    read = nodes_module._read

    def late(path: Path) -> object:
        history = seen.setdefault(path, [(0.0, None)])
        history.append((time.monotonic(), read(path)))
        return next(value for moment, value in reversed(history) if moment <= time.monotonic() - 1.0)

    monkeypatch.setattr(nodes_module, "_read", late)
    with Meeting(tmp_path, {"node_timeout": 5.0}) as (first, second):
        for step in range(3):
            threading.Timer(0.5, first.tell, [f"passed-{step}"]).start()
            assert second.wait_for(f"passed-{step}")[0] == f"passed-{step}"


def test_a_preempted_node_tells_the_others_that_it_was(tmp_path: Path) -> None:
    with Meeting(tmp_path) as (first, second):
        second.__exit__(Preempted, Preempted("stopped by SIGTERM before the first step"), None)
        with pytest.raises(Preempted, match=r"node 1 \(.+\) stopped: stopped by SIGTERM before the first step"):
            first.wait_for("never")


class Step:
    """A step whose input another machine has made."""

    def __init__(self, root: Path):
        made = Node("filter", "filter", 1, {}, {})
        self.node = Node("sft/train", "sft.train", 1, {}, {}, {"rows": Output(made, "rows")}, ranks=True)
        self.folder = root / self.node.kind / self.node.fingerprint
        self.input = root / made.kind / made.fingerprint

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def files(self) -> list[tuple[Path, str]]:
        return [
            (self.folder / "stage.yaml", f"fingerprint: {self.node.fingerprint}\n"),
            (self.input / "done.json", json.dumps({"files": {"rows/data.arrow": "sha"}})),
            (self.input / "rows" / "data.arrow", "x"),
        ]


@pytest.mark.parametrize("last", range(3))
def test_a_share_begins_only_when_every_input_can_be_seen(tmp_path: Path, last: int) -> None:
    step = Step(tmp_path)
    files = step.files()
    for number, (path, text) in enumerate(files):
        if number != last:
            step.write(path, text)
    if last == 0:
        step.write(step.folder / "stage.yaml", "fingerprint: of an earlier try\n")
    with Meeting(tmp_path / "nodes", {"node_timeout": 5.0, "node_wait": 5.0}) as (_, second):
        threading.Timer(1.0, step.write, files[last]).start()
        started = time.monotonic()
        await_visible(step, step.folder, second)  # pyright: ignore[reportArgumentType]
        assert time.monotonic() - started >= 0.9


def test_what_never_becomes_visible_is_named(tmp_path: Path) -> None:
    step = Step(tmp_path)
    for path, text in step.files()[:2]:
        step.write(path, text)
    with Meeting(tmp_path / "nodes", {"node_timeout": 5.0, "node_wait": 1.5}) as (_, second):
        expected = (
            r"data.arrow: written by node 0, but not to be seen on this node \(.+\) within 1.5 s .* all nodes share"
        )
        with pytest.raises(StageFailed, match=expected):
            await_visible(step, step.folder, second)  # pyright: ignore[reportArgumentType]


def test_events_of_an_earlier_try_are_not_read_again_where_the_file_looks_short(tmp_path: Path) -> None:
    """Node 0 knows the true size; this node may see an older one for a while."""
    file = tmp_path / "events.jsonl"
    old = '{"event": "stopped"}\n'
    reader = EventReader(file, len(old))
    assert reader.read() == []
    file.write_text(old[:7], encoding="utf-8")
    assert reader.read() == []
    file.write_text(old + '{"event": "done"}\n', encoding="utf-8")
    assert reader.read() == [{"event": "done"}]


def session(outputs: Path) -> Path | None:
    try:
        told = json.loads((outputs / "runs" / "x" / "nodes" / "session.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return outputs / "runs" / "x" / "nodes" / told["session"]


@pytest.mark.slow
@pytest.mark.end_to_end
def test_nodes_that_die_at_every_boundary_lose_nothing(tmp_path: Path) -> None:
    """Node 1 and node 0 in turn are killed as each order appears; at the end everything was made once."""
    overrides = ("run_id=x", "stages.sft.max_steps=6", "launch.node_timeout=8")
    orders = ["passed-0", "passed-1", "passed-2", "passed-3", "passed-4", "start-5"]
    sealed: dict[Path, int] = {}
    for number, order in enumerate(orders):
        before = session(tmp_path)
        pair = [start(tmp_path, rank, *overrides) for rank in (0, 1)]
        deadline = time.monotonic() + 200
        while (now := session(tmp_path)) is None or now == before or not (now / f"{order}.json").exists():
            assert time.monotonic() < deadline and all(one.poll() is None for one in pair), order
            time.sleep(0.02)
        victim = number % 2
        os.killpg(pair[victim].pid, signal.SIGKILL)
        code, out, err = ended(pair[1 - victim], 200)
        pair[victim].communicate(timeout=20)
        name = rf"node {victim} \(.+\) has given no sign of life for 8 s; start the same command again on all nodes"
        assert code == 4 and re.search(name, err) and err.count("\n") == 1, (order, out, err)
        done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("artifacts/*/*/done.json")}
        assert sealed.items() <= done.items(), "what was made stays"
        sealed = done
    ends = [ended(one, 300) for one in [start(tmp_path, rank, *overrides) for rank in (0, 1)]]
    assert [code for code, _, _ in ends] == [0, 0], ends
    alone = start(tmp_path / "alone", 0, "run_id=x", "stages.sft.max_steps=6", "launch.nodes=1")
    assert ended(alone, 200)[0] == 0
    assert losses(tmp_path) == pytest.approx(losses(tmp_path / "alone"), abs=1e-6)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_signal_to_one_node_stops_both_at_a_checkpoint(tmp_path: Path) -> None:
    overrides = ("run_id=x", "stages.sft.max_steps=300", "stages.sft.checkpoint_every=1000", "launch.node_timeout=60")
    pair = [start(tmp_path, rank, *overrides) for rank in (0, 1)]
    deadline = time.monotonic() + 200
    while not any(file.stat().st_size for file in tmp_path.glob("artifacts/sft.train/*/checkpoints/steps.jsonl")):
        assert time.monotonic() < deadline
        assert all(one.poll() is None for one in pair), [ended(one, 5) for one in pair if one.poll() is not None]
        time.sleep(0.05)
    pair[1].send_signal(signal.SIGUSR1)
    ends = [ended(one) for one in pair]
    assert [code for code, _, _ in ends] == [75, 75], ends
    assert "with a checkpoint of step " in ends[1][2]
    assert list(tmp_path.glob("artifacts/sft.train/*/checkpoints/checkpoint-*/complete.json"))
    ends = [ended(one, 300) for one in [start(tmp_path, rank, *overrides) for rank in (0, 1)]]
    assert [code for code, _, _ in ends] == [0, 0] and "resumed" in ends[0][1], ends
    assert len(losses(tmp_path)) == 300

"""Failing tasks, killed workers and killed parents: one clear error, finished tasks stay, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import shard_work
from shard_work import bytes_of, parts, shards, started, write

from data_prep.engines import local
from data_prep.engines.config import LocalEngine
from data_prep.engines.engine import run_tasks
from data_prep.errors import DataError

pytestmark = pytest.mark.end_to_end

WORKERS = [1, 2]
TWO = LocalEngine(workers=2)


@pytest.mark.parametrize("workers", WORKERS)
def test_the_first_failing_task_in_task_order_is_told(tmp_path: Path, workers: int) -> None:
    """Shard 3 fails at once; shard 2, begun before it, fails most of a second later."""
    tasks = shards(8)
    tasks[2] = shard_work.Shard("shard-002", 2, how="refuse", seconds=0.8)
    tasks[3] = shard_work.Shard("shard-003", 3, how="refuse")
    with pytest.raises(DataError) as caught:
        run_tasks(LocalEngine(workers=workers), write, tasks, tmp_path, version="1", title="t")
    assert str(caught.value) == "shard 2: refused; take another"
    assert (tmp_path / "shard-001").exists() and not (tmp_path / "shard-007").exists()
    assert parts(tmp_path) == []


@pytest.mark.parametrize("workers", WORKERS)
def test_any_other_failure_is_one_line_with_its_traceback_as_a_note(tmp_path: Path, workers: int) -> None:
    log = tmp_path / "log"
    tasks = [*shards(2, log), shard_work.Shard("bad", 9, log, how="break")]
    with pytest.raises(DataError) as caught:
        run_tasks(LocalEngine(workers=workers), write, tasks, tmp_path / "out", version="1", title="measure")
    kept = "; finished tasks are kept, the same command goes on from them"
    assert str(caught.value) == f"measure: task bad: ValueError: no luck with 9{kept}"
    assert "_misbehave" in caught.value.__notes__[0]
    healed = [*shards(2, log), shard_work.Shard("bad", 9, log)]
    finished = run_tasks(LocalEngine(workers=workers), write, healed, tmp_path / "out", version="1", title="measure")
    assert finished.reused == 2
    assert started(log) == ["bad", "bad", "shard-000", "shard-001"]


def test_a_killed_worker_costs_its_task_one_more_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = shards(5, log)
    tasks[1] = shard_work.Shard("shard-001", 1, log, how="die once")
    finished = run_tasks(TWO, write, tasks, tmp_path / "out", version="1", title="t")
    assert [result["number"] for result in finished.results] == [0, 1, 2, 3, 4]
    assert started(log) == ["shard-000", "shard-001", *(f"shard-{number:03d}" for number in range(1, 5))]
    run_tasks(LocalEngine(workers=1), write, shards(5), tmp_path / "quiet", version="1", title="t")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "quiet")


def test_a_task_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    tasks = shards(5)
    tasks[1] = shard_work.Shard("shard-001", 1, how="die")
    with pytest.raises(DataError) as caught:
        run_tasks(TWO, write, tasks, tmp_path, version="1", title="measure")
    assert str(caught.value) == (
        "measure: task shard-001: its worker was killed by signal 9 (often out of memory), also when no other task "
        "ran; finished tasks are kept; use smaller shards, or a machine with more memory"
    )
    assert all((tmp_path / f"shard-{number:03d}").exists() for number in (0, 2, 3, 4))
    assert parts(tmp_path) == []


def test_mistakes_of_the_calling_code_fail_at_once(tmp_path: Path) -> None:
    def inner(task, out):
        return None

    for work, tasks, told in (
        (inner, shards(1), "cannot be found by other processes"),
        (write, shards(1) * 2, "two tasks are called shard-000"),
        (write, [shard_work.Shard("../x", 1)], "is not fit for a folder"),
    ):
        with pytest.raises(ValueError, match=told):
            run_tasks(TWO, work, tasks, tmp_path, version="1", title="t")


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(local, "BOOT", "import no_such_module")
    with pytest.raises(DataError) as caught:
        run_tasks(TWO, write, shards(2), tmp_path, version="1", title="t")
    assert str(caught.value) == (
        "engine.kind=local: a worker process did not start "
        "(ModuleNotFoundError: No module named 'no_such_module'); check the installation"
    )


PROGRAM = """
import sys
from pathlib import Path
from data_prep.engines.config import LocalEngine
from data_prep.engines.engine import run_tasks
sys.path.insert(0, {work!r})
from shard_work import shards, write
tasks = shards(8, Path({log!r}), seconds={seconds})
run_tasks(LocalEngine(workers={workers}), write, tasks, Path({out!r}), version="1", title="t")
"""


def program(tmp_path: Path, workers: int, seconds: float) -> subprocess.Popen[bytes]:
    """A script without a main guard, in a folder with modules that must not stand in for the real ones."""
    here = tmp_path / "here"
    (here / "data_prep").mkdir(parents=True, exist_ok=True)
    for name in ("data_prep/__init__.py", "pickle.py", "pyarrow.py"):
        (here / name).write_text("raise SystemExit('shadowed')")
    script = tmp_path / "script.py"
    said = {"work": str(Path(__file__).parent), "log": str(tmp_path / "log"), "out": str(tmp_path / "out")}
    script.write_text(PROGRAM.format(workers=workers, seconds=seconds, **said))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(script)]
    return subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize(
    ("end", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGKILL, 2), (signal.SIGINT, 1)]
)
def test_an_ended_parent_leaves_finished_tasks_and_no_process(
    tmp_path: Path, end: signal.Signals, workers: int
) -> None:
    child = program(tmp_path, workers, seconds=0.15)
    while len(list((tmp_path / "out").glob("shard-*"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children()]
    assert len(family) == (1 if workers == 1 else 3)
    os.killpg(child.pid, end) if end == signal.SIGINT else child.send_signal(end)
    _, said = child.communicate(timeout=30)
    assert child.returncode == -end
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert (b"KeyboardInterrupt" in said) == (end == signal.SIGINT) and b"leaked" not in said
    kept = sorted(path.name for path in (tmp_path / "out").glob("shard-*"))
    begun = started(tmp_path / "log")
    assert 3 <= len(kept) < 8
    again = program(tmp_path, workers, seconds=0.0)
    assert again.wait(60) == 0, again.stderr and again.stderr.read()
    assert started(tmp_path / "log") == sorted([*begun, *(shard.name for shard in shards(8) if shard.name not in kept)])
    run_tasks(LocalEngine(workers=1), write, shards(8), tmp_path / "quiet", version="1", title="t")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "quiet")


def test_a_worker_does_not_finish_for_a_dead_parent(tmp_path: Path) -> None:
    child = program(tmp_path, workers=2, seconds=600)
    while len(started(tmp_path / "log")) < 2:
        assert child.poll() is None
        time.sleep(0.01)
    family = psutil.Process(child.pid).children()
    child.kill()
    child.communicate(timeout=30)
    assert len(family) == 2
    assert psutil.wait_procs(family, timeout=20)[1] == []

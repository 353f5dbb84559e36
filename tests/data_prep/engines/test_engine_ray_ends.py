"""The Ray engine started and ended in every way: nothing is left behind, and the next start goes on."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import shard_work
from shard_work import bytes_of, shards, started, write

from data_prep.engines import ray_engine
from data_prep.engines.config import RayEngine
from data_prep.engines.engine import run_tasks, start_engine
from data_prep.errors import DataError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ray_engine.find_spec("ray") is None, reason="the extra ray is not installed"),
]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For our own clusters; a parent that was killed cannot clear it away."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


PROGRAM = """
import sys
from pathlib import Path
from data_prep.engines.config import RayEngine
from data_prep.engines.engine import run_tasks
sys.path.insert(0, {work!r})
from shard_work import shards, write
tasks = shards(8, Path({log!r}), seconds={seconds})
finished = run_tasks(RayEngine(address={address!r}, workers=2), write, tasks, Path({out!r}), version="1", title="t")
assert [result["number"] for result in finished.results] == list(range(8))
"""


def program(tmp_path: Path, address: str | None, seconds: float) -> subprocess.Popen[bytes]:
    (tmp_path / "here" / "data_prep").mkdir(parents=True, exist_ok=True)
    (tmp_path / "here" / "data_prep" / "__init__.py").write_text("raise SystemExit('shadowed')")
    said = {"work": str(Path(__file__).parent), "log": str(tmp_path / "log"), "out": str(tmp_path / "out")}
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.format(address=address, seconds=seconds, **said))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path / "here",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("own", "end"),
    [
        (False, signal.SIGKILL),
        (True, signal.SIGINT),
        (True, signal.SIGTERM),
        (True, signal.SIGKILL),
    ],
)
@pytest.mark.timeout(600)
def test_a_killed_parent_goes_on_where_it_was(
    tmp_path: Path, cluster: Any, quiet: dict[str, bytes], own: bool, end: signal.Signals
) -> None:
    address = None if own else cluster.address
    child = program(tmp_path, address, seconds=1.0)
    while len(list((tmp_path / "out").glob("shard-*"))) < 3:
        assert child.poll() is None, child.stdout and child.stdout.read()
        time.sleep(0.01)
    family = psutil.Process(child.pid).children(recursive=True)
    assert bool(family) == own
    child.send_signal(end)
    child.communicate(timeout=60)
    assert child.returncode != 0
    # Two agents of Ray notice only after a minute that their node was killed.
    assert psutil.wait_procs(family, timeout=150 if end == signal.SIGKILL else 5)[1] == []
    time.sleep(2.5)  # a task that runs on in the cluster ends by itself
    kept = sorted(path.name for path in (tmp_path / "out").glob("shard-*"))
    begun = started(tmp_path / "log")
    assert 3 <= len(kept) < 8
    again = program(tmp_path, address, seconds=0.0)
    said, _ = again.communicate(timeout=120)
    assert (again.returncode, said) == (0, b"")
    assert started(tmp_path / "log") == sorted([*begun, *(shard.name for shard in shards(8) if shard.name not in kept)])
    assert bytes_of(tmp_path / "out") == quiet


def test_our_own_cluster_is_silent_and_leaves_nothing(tmp_path: Path, short: Path) -> None:
    child = program(tmp_path, None, seconds=0.5)
    while not (tmp_path / "out" / "shard-000").exists():
        assert child.poll() is None, child.stdout and child.stdout.read()
        time.sleep(0.01)
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) > 4 and len(list(short.iterdir())) == 1
    said, _ = child.communicate(timeout=120)
    assert (child.returncode, said) == (0, b"")
    assert [one for one in family if one.is_running()] == []
    assert list(short.iterdir()) == []


def test_a_started_cluster_serves_several_maps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PROVETUNE_PSEUDONYM_KEY", "correct-horse-battery")
    secrets = {"PROVETUNE_PSEUDONYM_KEY": "correct-horse-battery"}
    with start_engine(RayEngine(workers=1)) as engine:
        run_tasks(engine, shard_work.leak, shards(2), tmp_path / "a", version="1", title="t", secrets=secrets)
        found = run_tasks(engine, shard_work.surroundings, shards(2), tmp_path / "b", version="1", title="t")
        assert [result["key"] for result in found.results] == [False, False]
    assert os.environ["PROVETUNE_PSEUDONYM_KEY"] == "correct-horse-battery"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_nobody_at_the_address(tmp_path: Path, address: str, monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        run_tasks(RayEngine(address=address), write, shards(2), tmp_path, version="1", title="t")
    assert time.monotonic() - start < 60  # alone, Ray tries for two minutes
    assert str(caught.value).startswith(f"engine.address={address}: no Ray cluster ")
    assert "`ray start --head`" in str(caught.value)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(DataError, match=r"RAY_ADDRESS=ray://head:10001: must be host:port or auto; run on a machine"):
        run_tasks(RayEngine(), write, shards(2), tmp_path, version="1", title="t")

"""The Ray engine on two nodes: the bytes of the local engine, whatever dies; and what it says when it cannot."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import shard_work
from shard_work import bytes_of, shards, started, write

from data_prep.engines import ray_engine
from data_prep.engines.config import LocalEngine, RayEngine
from data_prep.engines.engine import run_tasks
from data_prep.errors import DataError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ray_engine.find_spec("ray") is None, reason="the extra ray is not installed"),
]


def test_equal_bytes_local_and_on_two_nodes(
    tmp_path: Path, cluster: Any, engine: RayEngine, quiet: dict[str, bytes]
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    finished = run_tasks(engine, write, shards(8, log, seconds=0.3), out, version="1", title="t")
    assert [result["number"] for result in finished.results] == list(range(8))
    run_tasks(LocalEngine(workers=2), write, shards(8), tmp_path / "two", version="1", title="t")
    assert bytes_of(out) == bytes_of(tmp_path / "two") == quiet
    assert {file.name.split(".")[-1] for file in log.iterdir()} == {node.node_id for node in cluster.list_all_nodes()}
    assert run_tasks(LocalEngine(workers=1), write, shards(8), out, version="1", title="t").reused == 8


def test_the_cluster_that_was_there_stays(tmp_path: Path, cluster: Any, engine: RayEngine) -> None:
    for version in "12":
        run_tasks(engine, write, shards(1), tmp_path, version=version, title="t")
    assert all(node.any_processes_alive() and not node.dead_processes() for node in cluster.list_all_nodes())


def test_a_killed_worker_changes_nothing(tmp_path: Path, engine: RayEngine, quiet: dict[str, bytes]) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    tasks = shards(8, log)
    tasks[2] = shard_work.Shard("shard-002", 2, log, how="die once")
    run_tasks(engine, write, tasks, out, version="1", title="t")
    assert started(log).count("shard-002") == 2 and len(started(log)) == 9
    assert bytes_of(out) == quiet


def test_a_task_that_kills_every_worker_is_named(tmp_path: Path, engine: RayEngine) -> None:
    tasks = [*shards(2), shard_work.Shard("bad", 9, how="die")]
    with pytest.raises(DataError, match=r"t: task bad: its worker on the Ray cluster died \(WorkerCrashedError\)"):
        run_tasks(engine, write, tasks, tmp_path, version="1", title="t")
    assert (tmp_path / "shard-001").exists()


def test_a_lost_node_changes_nothing(
    tmp_path: Path, cluster: Any, engine: RayEngine, quiet: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    third = cluster.add_node(num_cpus=1)

    def lose() -> None:
        end = time.monotonic() + 60
        while not list(log.glob(f"*.{third.node_id}")) and time.monotonic() < end:
            time.sleep(0.05)
        cluster.remove_node(third, allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    run_tasks(engine, write, shards(8, log, seconds=2.0), out, version="1", title="t")
    loser.join()
    assert len(started(log)) > 8
    assert capfd.readouterr().out == ""
    assert bytes_of(out) == quiet


def test_failures_read_as_they_do_locally(tmp_path: Path, engine: RayEngine) -> None:
    for how in ("refuse", "break"):
        tasks = [*shards(2), *(shard_work.Shard(f"bad-{number}", number, how=how) for number in (5, 6))]
        told = []
        for each in (engine, LocalEngine(workers=1)):
            with pytest.raises(DataError) as caught:
                run_tasks(each, write, tasks, tmp_path / each.kind, version="1", title="t")
            told.append((str(caught.value), len(getattr(caught.value, "__notes__", []))))
        assert told[0] == told[1]
        assert "5" in told[0][0]


def test_a_secret_is_nowhere_on_disk(tmp_path: Path, cluster: Any, engine: RayEngine, monkeypatch) -> None:
    value = "correct-horse-battery-" + os.urandom(4).hex()
    secrets = {"PROVETUNE_PSEUDONYM_KEY": value}
    monkeypatch.setenv("PROVETUNE_PSEUDONYM_KEY", value)
    out = tmp_path / "out"
    for how in ("", "raise", "refuse", "return"):
        tasks = [*shards(3, how=how), shard_work.Shard("die", 1, how="die once", log=tmp_path / f"log{how}")]
        try:
            run_tasks(engine, shard_work.leak, tasks[:3], out / how, version="1", title="t", secrets=secrets)
        except DataError as error:
            assert value not in str(error) + "".join(getattr(error, "__notes__", []))
        if not how:
            run_tasks(engine, write, tasks[3:], out / "die", version="1", title="t", secrets=secrets)
    assert (out / "shard-000" / "length").read_text() == str(len(value))
    # The session's logs, and the other places where Ray might spill or note it.
    session = Path(cluster.head_node.get_session_dir_path())
    searched = [file for place in (session, out) for file in place.rglob("*") if file.is_file()]
    assert len(searched) > 20
    assert [file for file in searched if value.encode() in file.read_bytes()] == []
    found = run_tasks(engine, shard_work.surroundings, shards(2), tmp_path / "after", version="1", title="t")
    assert {(result["arrow"], result["threads"]) for result in found.results} == {(1, "1")}


def test_a_node_with_other_code_is_refused(tmp_path: Path, engine: RayEngine, monkeypatch) -> None:
    here = dict(ray_engine.versions())
    monkeypatch.setattr(ray_engine, "versions", lambda: here | {"code of data_prep": "0123456789ab"})
    with pytest.raises(DataError) as caught:
        run_tasks(engine, write, shards(2), tmp_path, version="1", title="t")
    host = os.uname().nodename
    assert str(caught.value) == (
        f"engine.kind=ray: node {host} has code of data_prep {here['code of data_prep']}, this machine 0123456789ab; "
        "install the same versions on every node"
    )


def test_a_node_without_the_code_is_refused(tmp_path: Path, engine: RayEngine, monkeypatch) -> None:
    monkeypatch.setattr(ray_engine, "import_path", lambda: [str(Path(__file__).parents[3])])
    with pytest.raises(DataError) as caught:
        run_tasks(engine, write, shards(2), tmp_path, version="1", title="t")
    assert f"node {os.uname().nodename}: ModuleNotFoundError: No module named 'shard_work'; install" in str(
        caught.value
    )


def test_files_that_stay_on_a_node_are_an_error(tmp_path: Path, engine: RayEngine, monkeypatch) -> None:
    monkeypatch.setattr(ray_engine, "VISIBLE_SECONDS", 0.3)
    monkeypatch.setattr(ray_engine, "RECEIPT", "elsewhere.json")
    with pytest.raises(DataError, match="shard-000: written by a node, but not to be seen here; use a folder that all"):
        run_tasks(engine, write, shards(2), tmp_path, version="1", title="t")

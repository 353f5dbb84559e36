"""The local engine: equal bytes whatever the workers, resumable, deterministic failures, nothing left behind."""

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
import shard_work
from pydantic import TypeAdapter, ValidationError
from shard_work import bytes_of, parts, shards, started, write

from data_prep.engines import local
from data_prep.engines.config import Engine, LocalEngine, RayEngine
from data_prep.engines.engine import run_tasks, start_engine
from data_prep.errors import DataError

WORKERS = [1, 2]
TWO = LocalEngine(workers=2)


def test_results_and_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    made = []
    for workers in (1, 2, 3):
        folder = tmp_path / str(workers)
        finished = run_tasks(LocalEngine(workers=workers), write, shards(7), folder, version="1", title="t")
        assert finished.results == [{"number": number, "pair": [number, None]} for number in range(7)]
        assert (finished.reused, finished.remade) == (0, {})
        made.append(bytes_of(folder))
    assert made[0] == made[1] == made[2]
    assert {name for name in made[0] if name.startswith("shard-003/")} == {
        f"shard-003/{name}" for name in ("done.json", "rows.bin", "more/text.txt")
    }


def test_progress_counts_every_task(tmp_path: Path) -> None:
    seen = []

    def track(items, title, total=None):
        for item in items:
            seen.append((title, total))
            yield item

    for _ in range(2):
        run_tasks(TWO, write, shards(3), tmp_path, version="1", title="measure", track=track)
    assert seen == [("measure", 3)] * 6


def test_no_tasks_need_no_worker(tmp_path: Path) -> None:
    assert run_tasks(TWO, write, [], tmp_path, version="1", title="t").results == []


def test_a_second_start_runs_nothing_again(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    first = run_tasks(TWO, write, shards(5, log), out, version="1", title="t")
    again = run_tasks(LocalEngine(workers=1), write, shards(5, log), out, version="1", title="t")
    assert (again.results, again.reused, again.remade) == (first.results, 5, {})
    assert started(log) == [shard.name for shard in shards(5)]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "rows.bin").write_bytes(b"x" * 6400), "rows.bin: contents changed"),
        (lambda f: (f / "rows.bin").write_bytes(b""), "rows.bin: contents changed"),
        (lambda f: (f / "more" / "text.txt").unlink(), "more/text.txt: missing"),
        (lambda f: (f / "done.json").unlink(), "done.json: missing or not readable"),
        (lambda f: (f / "done.json").write_text("[]"), "done.json: missing or not readable"),
        (lambda f: (f / "done.json").write_text(json.dumps({"checksum": ""})), "done.json: missing or not readable"),
        (
            lambda f: (f / "done.json").write_text((f / "done.json").read_text().replace('"number": 1', '"number": 7')),
            "done.json: contents changed",
        ),
    ],
)
def test_what_is_damaged_is_made_again(tmp_path: Path, workers: int, damage, told: str) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    run_tasks(LocalEngine(workers=workers), write, shards(3), out, version="1", title="t")
    whole = bytes_of(out)
    damage(out / "shard-001")
    assert bytes_of(out) != whole
    again = run_tasks(LocalEngine(workers=workers), write, shards(3, log), out, version="1", title="t")
    assert (again.reused, again.remade) == (2, {"shard-001": told})
    assert started(log) == ["shard-001"]
    assert bytes_of(out) == whole


def test_what_is_of_another_version_is_made_again_and_replaced(tmp_path: Path) -> None:
    run_tasks(TWO, write, shards(2), tmp_path, version="1", title="t")
    (tmp_path / "shard-000" / "foreign").touch()
    again = run_tasks(TWO, write, shards(2), tmp_path, version="2", title="t")
    why = "made by another version, from other inputs or with other settings"
    assert (again.reused, again.remade) == (0, {"shard-000": why, "shard-001": why})
    assert not (tmp_path / "shard-000" / "foreign").exists()
    other = [shard_work.Shard("shard-000", 5), shards(2)[1]]
    again = run_tasks(TWO, write, other, tmp_path, version="2", title="t")
    assert again.remade == {"shard-000": why} and again.results[0]["number"] == 5
    burnt = run_tasks(TWO, shard_work.burn, other, tmp_path, version="2", title="t")
    assert (burnt.results, burnt.reused) == ([32, 32], 0)


def test_half_of_a_task_never_counts(tmp_path: Path) -> None:
    half = tmp_path / ".shard-001.host-1-ab.part"
    half.mkdir()
    (half / "rows.bin").write_bytes(b"half")
    finished = run_tasks(TWO, write, shards(2), tmp_path, version="1", title="t")
    assert (finished.reused, finished.remade) == (0, {})
    assert parts(tmp_path) == []


def test_a_started_engine_keeps_its_workers_between_maps(tmp_path: Path) -> None:
    with start_engine(TWO) as engine:
        pids = set[int]()
        for version in "12":
            found = run_tasks(engine, shard_work.surroundings, shards(4), tmp_path, version=version, title="t")
            pids |= {result["pid"] for result in found.results}
            tasks = [*shards(2), shard_work.Shard("bad", 9, how="refuse")]
            with pytest.raises(DataError, match="shard 9: refused"):
                run_tasks(engine, write, tasks, tmp_path, version=version, title="t")
        assert len(pids) <= 3 and os.getpid() not in pids


def test_workers_have_one_thread_and_are_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = run_tasks(TWO, shard_work.surroundings, shards(2), tmp_path, version="1", title="t").results
    assert [(result["arrow"], result["threads"]) for result in found] == [(1, "1")] * 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("workers", WORKERS)
def test_a_secret_reaches_the_work_and_nothing_else(tmp_path: Path, workers: int, monkeypatch) -> None:
    secrets = {"PROVETUNE_PSEUDONYM_KEY": "correct-horse-battery"}
    monkeypatch.setenv("PROVETUNE_PSEUDONYM_KEY", "the one before")

    def run(how: str) -> object:
        tasks = shards(3, how=how)
        engine = LocalEngine(workers=workers)
        return run_tasks(engine, shard_work.leak, tasks, tmp_path, version=how, title="t", secrets=secrets).results

    assert run("") == ["kept"] * 3
    assert (tmp_path / "shard-000" / "length").read_text() == "21"
    for how, told in (("raise", "KeyError: '***'"), ("refuse", "the key ***"), ("return", "the value of a secret")):
        with pytest.raises(DataError) as caught:
            run(how)
        assert told in str(caught.value)
        assert "correct-horse" not in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert not any(b"correct-horse" in content for content in bytes_of(tmp_path).values())
    assert os.environ["PROVETUNE_PSEUDONYM_KEY"] == "the one before"


def test_workers_do_not_inherit_a_secret(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PROVETUNE_PSEUDONYM_KEY", "correct-horse-battery")
    secrets = {"PROVETUNE_PSEUDONYM_KEY": "correct-horse-battery"}
    with start_engine(TWO) as engine:
        run_tasks(engine, write, shards(3), tmp_path, version="1", title="t", secrets=secrets)
        workers = psutil.Process().children()
        assert len(workers) == 2
        assert not any("PROVETUNE_PSEUDONYM_KEY" in worker.environ() for worker in workers)


def test_two_parents_do_not_share_a_folder(tmp_path: Path) -> None:
    run = threading.Thread(
        target=lambda: run_tasks(TWO, write, shards(2, seconds=1.0), tmp_path, version="1", title="t"), daemon=True
    )
    run.start()
    while not parts(tmp_path):
        time.sleep(0.01)
    with pytest.raises(DataError) as caught:
        run_tasks(TWO, write, shards(2), tmp_path, version="1", title="second")
    assert str(caught.value) == f"second: {tmp_path} is in use by another process; wait for it, or end it"
    run.join(30)
    assert run_tasks(TWO, write, shards(2), tmp_path, version="1", title="t").reused == 2


def test_processors_follow_the_limits(tmp_path: Path, monkeypatch) -> None:
    assert 1 <= local.usable_processors() <= len(os.sched_getaffinity(0))
    assert list(local._cgroup_limit(tmp_path)) == []
    for quota, expected in (("max 100000", []), ("250000 100000", [2]), ("50000 100000", [1]), ("bad", [])):
        (tmp_path / "cpu.max").write_text(quota)
        assert list(local._cgroup_limit(tmp_path)) == expected
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert list(local._cgroup_limit(tmp_path)) == []
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    assert list(local._cgroup_limit(tmp_path)) == [3]


def test_configuration_is_strict() -> None:
    engine = TypeAdapter(Engine)
    assert engine.validate_python({"kind": "local"}) == LocalEngine(workers="auto")
    assert engine.validate_python({"kind": "ray", "address": "head:6379", "workers": 4}) == RayEngine(
        address="head:6379", workers=4
    )
    for wrong in (
        {"kind": "slurm"},
        {"kind": "local", "workers": 0},
        {"kind": "local", "workers": "many"},
        {"kind": "local", "address": "auto"},
        {"kind": "ray", "address": "ray://head:10001"},
        {"kind": "ray", "address": "head"},
    ):
        with pytest.raises(ValidationError):
            engine.validate_python(wrong)
    with pytest.raises(ValidationError, match=r"'http://head:8265' is no address; use host:port, or auto"):
        RayEngine(address="http://head:8265")

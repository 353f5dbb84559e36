"""Artifacts: atomic writes, content hashes, damage, locks."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Artifact, HashMemory, file_sha256, read_json, write_json, write_text
from pipeline.errors import LockHeld


@pytest.fixture
def hashes(tmp_path: Path) -> HashMemory:
    return HashMemory(tmp_path / "hashes.json")


@pytest.fixture
def sealed(tmp_path: Path, hashes: HashMemory) -> Artifact:
    artifact = Artifact(tmp_path / "kind" / "0123456789ab")
    write_text(artifact.folder / "rows" / "train.jsonl", "a\nb\n")
    write_text(artifact.folder / "checkpoints" / "step", "1")
    artifact.seal({"metrics": {}}, hashes)
    return artifact


def test_sealed_is_cached_and_drops_checkpoints(sealed: Artifact, hashes: HashMemory) -> None:
    assert sealed.state(hashes) == "cached"
    assert not (sealed.folder / "checkpoints").exists()
    assert read_json(sealed.done_file)["files"] == {"rows/train.jsonl": file_sha256(sealed.folder / "rows/train.jsonl")}


@given(position=st.integers(0, 3), bit=st.integers(0, 7))
def test_any_flipped_bit_is_damage(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    hashes, artifact = HashMemory(folder / "hashes.json"), Artifact(folder / "x")
    write_text(artifact.folder / "file", "abcd")
    artifact.seal({"metrics": {}}, hashes)
    content = bytearray(b"abcd")
    content[position] ^= 1 << bit
    (artifact.folder / "file").write_bytes(content)
    assert artifact.damage(HashMemory(folder / "none.json")) == "file: contents changed"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "rows/train.jsonl").unlink(), "rows/train.jsonl: missing"),
        (lambda folder: (folder / "rows/train.jsonl").write_text("a\n"), "rows/train.jsonl: contents changed"),
        (lambda folder: (folder / "done.json").write_text("garbage"), "done.json: not readable"),
        (lambda folder: (folder / "done.json").write_text("[]"), "done.json: not readable"),
        (lambda folder: (folder / "done.json").write_text('{"files": 3}'), "done.json: not readable"),
        (lambda folder: (folder / "done.json").write_text('{"files": {}}'), "done.json: not readable"),
        (lambda folder: (folder / "done.json").write_bytes(b"\xff"), "done.json: not readable"),
    ],
)
def test_damage_is_named(sealed: Artifact, hashes: HashMemory, harm, told: str) -> None:  # noqa: ANN001
    harm(sealed.folder)
    assert sealed.damage(hashes) == told
    assert sealed.state(hashes) == "damaged"


def test_touched_files_are_read_again_and_found_equal(sealed: Artifact, hashes: HashMemory) -> None:
    os.utime(sealed.folder / "rows/train.jsonl", (1, 1))
    assert sealed.state(hashes) == "cached"


def test_unfinished_artifacts(tmp_path: Path, hashes: HashMemory) -> None:
    artifact = Artifact(tmp_path / "kind" / "0123456789ab")
    assert artifact.state(hashes) == "new" and not artifact.leftovers()
    write_text(artifact.folder / "half.jsonl", "a")
    assert artifact.state(hashes) == "new" and artifact.leftovers()
    write_text(artifact.folder / "checkpoints" / "steps.jsonl", "1")
    assert artifact.state(hashes) == "resume"


def test_a_link_must_point_where_the_plan_says(tmp_path: Path, hashes: HashMemory) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        write_text(folder / "config.json", "{}")
    artifact = Artifact(tmp_path / "model" / "0123456789ab", {"model": str(new)})
    artifact.folder.mkdir(parents=True)
    (artifact.folder / "model").symlink_to(old)
    artifact.seal({"metrics": {}}, hashes)
    assert artifact.damage(hashes) == f"model: points at another place than {new}"
    (artifact.folder / "model").unlink()
    (artifact.folder / "model").symlink_to(new)
    assert artifact.state(hashes) == "cached"


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new \ud800")
    assert read_json(file) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]


def test_hashes_are_remembered_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, store = tmp_path / "weights", tmp_path / "hashes.json"
    file.write_bytes(b"w" * 100)
    memory = HashMemory(store)
    digest = memory.sha256(file)
    memory.save()
    monkeypatch.setattr("pipeline.artifacts.file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert HashMemory(store).sha256(file) == digest
    monkeypatch.undo()
    file.write_bytes(b"v" * 100)
    os.utime(file, ns=(1, 1))
    assert HashMemory(store).sha256(file) != digest


@pytest.mark.parametrize("garbage", ["", "[1]", "3", "{", '"text"'])
def test_a_damaged_hash_memory_is_made_again(tmp_path: Path, garbage: str) -> None:
    store, file = tmp_path / "hashes.json", tmp_path / "file"
    store.write_text(garbage)
    file.write_text("x")
    memory = HashMemory(store)
    digest = memory.sha256(file)
    memory.save()
    assert read_json(store)[str(file.resolve())][2] == digest


HOLDER = """
import sys, time
from pathlib import Path
from pipeline.artifacts import Artifact
with Artifact(Path(sys.argv[1])).lock(0, print):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def held(folder: Path):  # noqa: ANN201
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    import socket

    artifact = Artifact(tmp_path / "sft.train" / "0123456789ab")
    with held(artifact.folder) as holder:
        with pytest.raises(LockHeld) as caught, artifact.lock(0, print):
            pytest.fail("two holders")
        said = str(caught.value)
        assert said.startswith(
            f"sft.train/0123456789ab: being written by process {holder.pid} on {socket.gethostname()}"
        )
        assert said.endswith("waited 0 s; start again later, or raise lock_wait")
        assert caught.value.exit_code == 4


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    artifact, told = Artifact(tmp_path / "sft.train" / "0123456789ab"), []
    with held(artifact.folder) as holder:
        started = time.monotonic()
        holder.kill()
        with artifact.lock(20, told.append):
            assert time.monotonic() - started < 10


def test_waiting_is_told_once(tmp_path: Path) -> None:
    artifact, told = Artifact(tmp_path / "sft.train" / "0123456789ab"), []
    with held(artifact.folder), pytest.raises(LockHeld), artifact.lock(0.7, told.append):
        pytest.fail("two holders")
    assert len(told) == 1 and told[0].startswith("waiting for sft.train/0123456789ab: being written by process")


def test_done_json_is_plain(sealed: Artifact) -> None:
    assert {"files", "finished", "metrics"} <= set(json.loads(sealed.done_file.read_text(encoding="utf-8")))

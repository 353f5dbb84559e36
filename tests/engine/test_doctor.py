"""The doctor: planted faults are found, with what to do; a sound machine passes."""

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline import doctor, doctor_devices
from pipeline.doctor import examine, main

Usage = namedtuple("Usage", "total used free")


def program(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)


def test_a_sound_folder(tmp_path: Path) -> None:
    found = examine(tmp_path / "not yet" / "there", [doctor.check_renames, doctor.check_locks, doctor.check_modules])
    assert [one.state for one in found] == ["ok", "ok", "ok"], found
    assert not list(tmp_path.iterdir()), "probes are removed"


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way", encoding="utf-8")
    (found,) = examine(file / "outputs", [doctor.check_disk])
    assert found.state == "fault" and found.found.endswith("cannot be written") and "outputs=FOLDER" in found.advice


def test_a_nearly_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((1e9, "fault"), (5e9, "warning"), (5e11, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(1e12, 0, int(free)))
        (found,) = examine(tmp_path, [doctor.check_disk])
        assert found.state == state and found.found.startswith(f"{free / 1e9:.0f} GB free")


def test_a_file_system_without_locks_or_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks that lock nobody out (NFS with nolock), locks that are refused, renames that fail."""
    monkeypatch.setattr(doctor, "_held_by_another", lambda _: False)
    (found,) = examine(tmp_path, [doctor.check_locks])
    assert found.state == "fault" and "two processes got the same lock" in found.found and "nolock" in found.advice

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (found,) = examine(tmp_path, [doctor.check_locks])
    assert found.state == "fault" and "No locks available" in found.found
    monkeypatch.setattr(Path, "replace", lambda self, target: None)
    (found,) = examine(tmp_path, [doctor.check_renames])
    assert found.state == "fault" and "a rename left the old file" in found.found


def test_the_lock_check_asks_another_process(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    assert not doctor._held_by_another(file)
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert doctor._held_by_another(file)


def test_two_owners_of_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fasttext_one", "fasttext_two"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "top_level.txt").write_text("fasttext\n", encoding="utf-8")
        (info / "RECORD").write_text("fasttext/__init__.py,,\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    (found,) = examine(tmp_path, [doctor.check_modules])
    assert found.state == "fault" and "fasttext: " in found.found and "fasttext_one, fasttext_two" in found.found
    assert "pip uninstall" in found.advice


@pytest.mark.parametrize("foreign", ["eval.py", "conf/__init__.py"])
def test_a_foreign_module_in_the_working_folder(foreign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = examine(tmp_path, [doctor.check_working_folder])
    assert found.state == "ok"
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("", encoding="utf-8")
    (found,) = examine(tmp_path, [doctor.check_working_folder])
    assert found.state == "warning" and found.found.startswith(foreign.split("/")[0])
    assert "start in another folder" in found.advice


@pytest.mark.parametrize(
    ("torch", "state", "expected"),
    [
        (None, "fault", "torch cannot be imported"),
        ({"version": "2", "cuda": None, "count": 0, "nccl": False}, "fault", "torch 2 is built without CUDA"),
        ({"version": "2", "cuda": "13", "count": 0, "nccl": True}, "fault", "torch 2 (CUDA 13) sees 0"),
        ({"version": "2", "cuda": "13", "count": 2, "nccl": True}, "ok", "2 × H100, driver 570"),
    ],
)
def test_driver_and_torch_must_match(
    torch: dict | None, state: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "nvidia-smi", "echo 'H100, 81559 MiB, 570'; echo 'H100, 81559 MiB, 570'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(doctor_devices, "_torch_says", lambda: torch)
    (found,) = examine(tmp_path, [doctor.check_gpus])
    assert found.state == state and expected in found.found and (state == "ok") == (found.advice == "")


def test_slurm_there_silent_and_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    states = []
    for setup in (None, "echo 'main up 2'", "echo 'no controller' >&2; exit 1"):
        if setup is not None:
            program(tmp_path, "sbatch", "exit 0")
            program(tmp_path, "sinfo", setup)
        (found,) = examine(tmp_path, [doctor.check_slurm])
        states.append((found.state, found.found.split(":")[0]))
    assert states[0][0] == "absent"
    if doctor_devices.importlib.util.find_spec("submitit"):
        assert states[1:] == [("ok", "partition main up 2"), ("warning", "no cluster answers")]


def test_a_check_that_breaks_is_a_fault_and_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_stars(_: Path) -> doctor_devices.Finding:
        raise ValueError("cloudy")

    (found,) = examine(tmp_path, [check_stars])
    assert (found.name, found.state) == ("stars", "fault") and "ValueError: cloudy" in found.found
    sound, broken = (
        doctor_devices.Finding("a", "absent", "none"),
        doctor_devices.Finding("b", "fault", "[red]x", "mend"),
    )
    monkeypatch.setattr(doctor, "examine", lambda _: [sound])
    assert main([]) == 0 and "nothing stands in the way of a run" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda _: [sound, broken])
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 checks found a fault" in out and "[red]x" in out and "mend" in out
    assert main(["--help"]) == 0 and main(["a", "b"]) == 2


@pytest.mark.end_to_end
def test_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.doctor", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1) and done.stdout.startswith("doctor") and done.stderr == ""
    assert "gloo works" in done.stdout

"""Reproduce: a run on the same machine gives the same bits; a changed number, seed or environment is told."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from pipeline import reproduce as reproduce_module
from pipeline.artifacts import read_json, write_json
from pipeline.errors import ConfigError, StageFailed
from pipeline.recorded import opened, read_run
from pipeline.reproduce import main, pinned
from pipeline.reproduction import Difference, compared, environment_facts, is_same
from tests.conftest import Finished

ROOT = Path(__file__).parents[2]


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.reproduce", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)


@pytest.mark.end_to_end
def test_the_same_machine_gives_the_same_bits_and_never_from_the_cache(smoke: Finished, tmp_path: Path) -> None:
    done = reproduce(str(smoke.outputs / "runs" / smoke.run), "--into", str(tmp_path / "again"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduced: all" in done.stdout and "bitwise equal" in done.stdout
    outcomes = {stage["outcome"] for stage in read_json(tmp_path / "again/runs" / smoke.run / "report.json")["stages"]}
    assert outcomes == {"ran"}
    before, after = read_run(smoke.outputs / "runs" / smoke.run), read_run(tmp_path / "again/runs" / smoke.run)
    found = list(compared(before, after, is_exact=True))
    names = {each.name for each in found}
    assert "sft/train adapter/adapter_model.safetensors" in names and "sft validation 30 loss" in names
    assert "base perplexity/sample bits_per_byte" in names and len(names) > 150


@pytest.mark.end_to_end
def test_a_changed_number_is_told_with_exit_1(
    smoke: Finished, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (copied / "runs" / "latest").resolve()
    report = read_json(run / "report.json")
    report["evaluation"]["models"]["sft"]["perplexity/sample"]["bits_per_byte"] += 0.25
    write_json(run / "report.json", report)
    monkeypatch.setattr("pipeline.reproduce._run_again", lambda *_: read_run(smoke.outputs / "runs" / smoke.run))
    assert main([str(run)]) == 1
    out = capsys.readouterr().out
    assert "not reproduced: 1 of" in out and "DIFFERS" in out and "the new run: " in out


@pytest.mark.end_to_end
def test_another_environment_is_listed_and_widens_the_tolerance(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (copied / "runs" / "latest").resolve()
    manifest = read_json(run / "manifest.json")
    manifest["environment"]["packages"]["torch"] = "2.0.1"
    manifest["environment"]["cpu"] = "Another Processor"
    write_json(run / "manifest.json", manifest)
    assert main([str(run), "--check"]) == 1
    out = capsys.readouterr().out
    assert "packages.torch" in out and "2.0.1" in out and "Another Processor" in out and "counts" in out
    recorded = read_run(run)
    tolerances = {each.name: each.allowed for each in compared(recorded, recorded, is_exact=False)}
    value = read_json(run / "report.json")["evaluation"]["models"]["base"]["perplexity/sample"]["bits_per_byte"]
    assert tolerances["base perplexity/sample bits_per_byte"] >= 1e-3 * value
    assert not any(name.endswith(".safetensors") for name in tolerances)


def test_what_counts_in_the_environment() -> None:
    then = {"python": "3.11.7", "memory_bytes": 8, "packages": {"torch": "2.13.0"}, "git": {"commit": "a"}, "gpus": []}
    assert is_same(environment_facts(then, {**then, "memory_bytes": 9, "git": {"commit": "b"}}))
    for change in (
        {"python": "3.12.0"},
        {"packages": {"torch": "2.14.0"}},
        {"packages": {}},
        {"gpus": [{"name": "x"}]},
    ):
        assert not is_same(environment_facts(then, then | change))


@pytest.mark.parametrize(
    ("then", "now", "allowed", "is_allowed"),
    [
        (1.0, 1.0, 0.0, True),
        (1.0, 1.0 + 1e-15, 0.0, False),
        (1.0, 1.005, 0.01, True),
        (1.0, 1.02, 0.01, False),
        (1.0, None, 0.01, False),
        (float("nan"), 1.0, 0.01, False),
        ("better", "worse", 0.0, False),
    ],
)
def test_when_two_values_agree(then: object, now: object, allowed: float, is_allowed: bool) -> None:
    assert Difference("x", then, now, allowed).is_allowed is is_allowed


def test_hub_sources_are_pinned_to_the_recorded_commit() -> None:
    manifest = {
        "config": {"model": {"source": "a/b", "revision": None}, "data": {"x": {"source": "c/d", "revision": "main"}}},
        "sources": {"model": {"hub": "a/b", "revision": "1" * 40}, "data": {"x": {"hub": "c/d", "revision": "2" * 40}}},
    }
    config = pinned(manifest)
    assert config["model"]["revision"] == "1" * 40 and config["data"]["x"]["revision"] == "2" * 40


@pytest.mark.end_to_end
def test_refusals_are_one_line(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = (copied / "runs" / "latest").resolve()
    assert main([str(run), "--into", str(copied)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    report = read_json(run / "report.json")
    report["run"] |= {"status": "failed", "failed": {"stage": "sft/train", "message": "x", "log": None}}
    write_json(run / "report.json", report)
    assert main([str(run)]) == 2
    assert "stopped before its end, so there is nothing to compare" in capsys.readouterr().err
    (run / "report.json").write_text(json.dumps({"schema_version": 99, "run": {}}))
    assert main([os.fspath(run)]) == 2
    error = capsys.readouterr().err
    assert "schema_version 99 is newer" in error and error.count("\n") == 1


def test_a_reproduction_that_cannot_begin_leaves_no_folder(
    smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that failed in a stage keeps the logs that its error names; any other leaves nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(reproduce_module, "_facts", lambda _: [])
    for error, left in ((ConfigError("no such model"), 0), (KeyboardInterrupt(), 0), (StageFailed("see its log"), 1)):
        monkeypatch.setattr(reproduce_module, "_run_again", mock.Mock(side_effect=error))
        with opened(str(smoke.outputs / "runs" / smoke.run)) as run, pytest.raises(type(error)):
            reproduce_module._reproduce(run, None)
        assert len(list(tmp_path.glob("provetune-reproduce-*"))) == left, error

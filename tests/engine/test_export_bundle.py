"""A bundle: the same bytes each time, no weights, verified elsewhere without the model; hostile zips are refused."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline import export, verify
from tests.conftest import Finished

pytestmark = pytest.mark.end_to_end


def packed(run: Path, bundle: Path, *options: str) -> Path:
    assert export.main([str(run), str(bundle), *options]) == 0
    return bundle


def test_a_reviewer_verifies_it_without_the_model(
    smoke: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = smoke.outputs / "runs" / smoke.run
    bundle = packed(run, tmp_path / "bundle.zip")
    assert packed(run, tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        left_out = json.loads(archive.read("bundle.json"))["left_out"]
    assert not any(name.endswith((".safetensors", ".arrow", ".npy", "train.jsonl", "rows.jsonl")) for name in names)
    wanted = ("manifest.json", "report.html", "report.json", "seal.json", "config.yaml", "ledger.parquet")
    wanted += ("sample.perplexity.jsonl", "sample.generation.jsonl", "comparison.json", "steps.jsonl", "audit.json")
    assert all(any(name.endswith(each) for name in names) for each in wanted)
    assert any(name.endswith("model.safetensors") for name in left_out)
    code = (
        "import sys; from pipeline.verify import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(bundle, elsewhere)
    done = subprocess.run(
        [sys.executable, "-c", code, "bundle.zip"], capture_output=True, text=True, check=True, cwd=elsewhere
    )
    assert done.stdout.splitlines()[-1] == "False 0" and "not in the bundle" in done.stdout


def test_weights_come_along_only_when_asked(smoke: Finished, tmp_path: Path) -> None:
    run = smoke.outputs / "runs" / smoke.run
    with zipfile.ZipFile(packed(run, tmp_path / "all.zip", "--weights")) as archive:
        names = [name.rsplit("/", 1)[-1] for name in archive.namelist()]
    assert {"model.safetensors", "adapter_model.safetensors"} <= set(names) and "train.jsonl" not in names
    assert verify.main([str(tmp_path / "all.zip")]) == 0


@pytest.mark.parametrize("name", ["sample.perplexity.jsonl", "report.json", "seal.json"])
def test_a_tampered_bundle_fails(
    name: str, smoke: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = packed(smoke.outputs / "runs" / smoke.run, tmp_path / "bundle.zip")
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(tmp_path / "bad.zip", "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith(name):
                content = content.replace(b"7", b"8", 1)
            target.writestr(entry.filename, content)
    assert verify.main([str(tmp_path / "bad.zip")]) == 1
    assert "checks failed" in capsys.readouterr().out


def test_a_file_that_vanished_from_a_bundle_is_missing(smoke: Finished, tmp_path: Path) -> None:
    bundle = packed(smoke.outputs / "runs" / smoke.run, tmp_path / "bundle.zip")
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(tmp_path / "bad.zip", "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith("ledger.parquet"):
                target.writestr(entry.filename, source.read(entry))
    assert verify.main([str(tmp_path / "bad.zip")]) == 1


def test_what_does_not_verify_is_not_packed(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = (copied / "runs" / "latest").resolve()
    file = next(copied.glob("artifacts/evaluate.predict/*/sample.perplexity.jsonl"))
    file.write_bytes(file.read_bytes() + b" ")
    assert export.main([str(run), str(tmp_path / "bundle.zip")]) == 3
    assert "does not verify (evaluate/" in capsys.readouterr().err and not (tmp_path / "bundle.zip").exists()


def test_refusals_are_one_line(smoke: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(smoke.outputs / "runs" / smoke.run)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("bundle.json", "{}")
        archive.writestr("../../evil.txt", "x")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    for command, message in (
        (lambda: export.main([run, str(tmp_path / "bundle.tar")]), "a bundle is a file that ends in .zip"),
        (lambda: verify.main([str(tmp_path / "evil.zip")]), "no bundle of python -m pipeline.export"),
        (lambda: verify.main([str(tmp_path / "other.zip")]), "no bundle of python -m pipeline.export"),
        (lambda: verify.main([str(tmp_path / "torn.zip")]), "torn.zip: damaged (File is not a zip file)"),
    ):
        assert command() == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path.parent / "evil.txt").exists()

"""Verify: a whole run passes; any flipped byte, lost file or changed number is found and named."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import verify
from pipeline.artifacts import file_sha256, read_json, write_json
from pipeline.recorded import read_run
from pipeline.verify import main, problems
from tests.conftest import Finished

pytestmark = pytest.mark.end_to_end


def run_of(outputs: Path) -> Path:
    return (outputs / "runs" / "latest").resolve()


def node(run: Path, name: str) -> Path:
    return next(each.folder for each in read_run(run).nodes if each.name == name)


def seal_again(run: Path, folder: Path) -> None:
    """What a clever tamperer does: all hashes made to fit."""
    done = read_json(folder / "done.json")
    done["files"] = {name: file_sha256(folder / name) for name in done["files"]}
    write_json(folder / "done.json", done)
    seal = read_json(run / "seal.json")
    seal["artifacts"][f"artifacts/{folder.parent.name}/{folder.name}"] = file_sha256(folder / "done.json")
    seal["run"] = {name: file_sha256(run / name) for name in seal["run"]}
    write_json(run / "seal.json", seal)


def test_a_whole_run_passes_without_torch(smoke: Finished) -> None:
    run = smoke.outputs / "runs" / smoke.run
    code = (
        "import sys; from pipeline.verify import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False 0"
    assert re.search(r"all \d+ checks passed", done.stdout) and "numbers recomputed" in done.stdout


def test_any_flipped_byte_is_found(copied: Path) -> None:
    """One byte of each file that a run vouches for, and of the seal; the place is drawn anew each time."""
    run = run_of(copied)
    recorded = read_run(run)
    files = [path for path in sorted(run.iterdir()) if path.is_file()]
    for each in recorded.nodes:
        files += [
            each.folder / "done.json",
            *(each.folder / name for name in read_json(each.folder / "done.json")["files"]),
        ]
    draw = random.Random(7)
    recompute = verify.recomputed
    for file in files:
        whole = file.read_bytes()
        if not whole:
            continue
        place = draw.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :])
        try:
            verify.recomputed = lambda node, run: read_json(node.folder / "comparison.json")  # hashes alone, quickly
            found = problems(recorded) if file.name != "manifest.json" else [main([str(run)])]
        finally:
            verify.recomputed = recompute
            file.write_bytes(whole)
        assert found and found != [0], f"{file}: byte {place} flipped, and nothing found"
    assert not problems(recorded)


def test_a_changed_prediction_is_found_even_with_fitting_hashes(copied: Path) -> None:
    run = run_of(copied)
    folder = node(run, "evaluate/sft")
    file = folder / "sample.perplexity.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    rows[3]["nll"] *= 0.9
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    seal_again(run, folder)
    assert [line.split(":")[0] for line in problems(read_run(run))] == ["evaluate/sft_vs_base"]
    assert "bits_per_byte" in problems(read_run(run))[0] and "recomputed" in problems(read_run(run))[0]


def test_a_prettier_report_is_found_even_with_fitting_hashes(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(copied)
    report = read_json(run / "report.json")
    report["evaluation"]["comparisons"]["sft_vs_base"]["perplexity/sample"]["bits_per_byte"]["difference"] = -0.9
    write_json(run / "report.json", report)
    seal_again(run, node(run, "model"))
    assert main([str(run)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "report.json" in out and re.search(r"1 of \d+ checks failed", out)


def test_missing_and_additional_files_are_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(copied)
    (node(run, "evaluate/base") / "sample.generation.jsonl").unlink()
    (node(run, "filter") / "slipped_in.json").write_text("{}")
    shutil.rmtree(node(run, "sft/train"))
    found = dict(line.split(": ", 1) for line in problems(read_run(run)))
    assert found["evaluate/base"] == "sample.generation.jsonl: missing"
    assert found["filter"] == "slipped_in.json: was not there when the artifact was sealed"
    assert found["sft/train"] == "done.json: missing"
    assert "only tuned has generation predictions" in found["evaluate/sft_vs_base"]
    assert main([str(run)]) == 1 and "checks failed" in capsys.readouterr().out


def test_a_page_rendered_again_still_passes(copied: Path) -> None:
    run = run_of(copied)
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert any("report.html: missing" in line for line in problems(read_run(run)))
    command = [sys.executable, "-m", "pipeline.report", str(run)]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert (run / "report.html").read_bytes() == before and not problems(read_run(run))


def test_a_run_without_a_seal_was_stopped(copied: Path) -> None:
    run = run_of(copied)
    (run / "seal.json").unlink()
    assert problems(read_run(run)) == [
        "seal.json: missing: the run was stopped before its end, or the file was removed"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "manifest.json: no such file; give the folder of a run"),
        ("{", "manifest.json: damaged (JSONDecodeError"),
        ('{"nodes": 3}', "manifest.json: damaged (TypeError"),
    ],
)
def test_what_is_no_run(content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")
    assert main([os.fspath(tmp_path / "absent")]) == 2
    assert "no such run" in capsys.readouterr().err

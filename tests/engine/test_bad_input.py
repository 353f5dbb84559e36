"""Data that cannot be used: one line that names the thing, its exit code, the traceback in the log only."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline

SMOKE = ["+experiment=smoke", "stages.sft.max_steps=2", "stages.sft.validate_every=null"]
EASY = ["stages.filter.steps.length=null", "stages.filter.steps.language=null"]

pytestmark = pytest.mark.end_to_end


def pairs(count: int = 60) -> list[dict[str, object]]:
    return [{"prompt": f"Repeat the number {n}.", "completion": f"It is {n}."} for n in range(count)]


def write(file: Path, rows: list[dict[str, object]], *broken: str) -> Path:
    lines = [json.dumps(row) for row in rows]
    file.write_text("\n".join([*lines[:2], *broken, *lines[2:]]) + "\n", encoding="utf-8")
    return file


def assert_refused(done: Finished, code: int, *expected: str) -> None:
    assert done.code == code, done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    for text in expected:
        assert text in done.err
    assert "Traceback" not in done.out + done.err
    assert done.report["run"]["status"] == "failed"
    log = Path(done.err.rsplit("log: ", 1)[1].rstrip(")\n"))
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_broken_line_is_named_or_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", pairs(), '{"prompt": "cut')
    failed = run_pipeline(tmp_path / "o", *SMOKE, *EASY, f"data={file}")
    assert_refused(failed, 3, "error: data/rows: ", f"{file}:3: broken JSON (", "on_error")
    skipped = run_pipeline(tmp_path / "o", *SMOKE, *EASY, f"data={file}", "data.rows.on_error=skip")
    assert skipped.code == 0, skipped.err
    assert "broken 1" in skipped.out
    assert "broken" in json.dumps(skipped.report["data"])
    assert "broken" in (tmp_path / "o/runs/latest/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "extra", "code", "expected"),
    [
        ([{"fråga": "a", "svar": "b"}] * 5, [], 3, ["fråga", "svar"]),
        ([], [], 3, ["holds no rows"]),
        (
            [{"prompt": "", "completion": ""} for _ in range(20)],
            [],
            3,
            ["error: "],
        ),
        (pairs(), ["stages.sft.max_length=16"], 3, ["error: sft/prepare: "]),
    ],
    ids=["unknown columns", "empty file", "all rows empty", "prompts longer than the context"],
)
def test_rows_that_cannot_be_used(
    tmp_path: Path, rows: list[dict[str, object]], extra: list[str], code: int, expected: list[str]
) -> None:
    file = write(tmp_path / "rows.jsonl", rows)
    assert_refused(run_pipeline(tmp_path / "o", *SMOKE, *EASY, f"data={file}", *extra), code, *expected)


def test_empty_after_filtering(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", pairs())
    done = run_pipeline(tmp_path / "o", *SMOKE, f"data={file}", "stages.filter.steps.length.min_prompt_words=9000")
    assert_refused(done, 3, "error: filter: ", "rows")


def test_a_row_without_a_supervised_token(tmp_path: Path) -> None:
    rows = [*pairs(), {"messages": [{"role": "user", "content": "Anyone there?"}]}]
    file = write(tmp_path / "rows.jsonl", [row for row in rows if "messages" in row] * 30)
    assert_refused(run_pipeline(tmp_path / "o", *SMOKE, *EASY, f"data={file}"), 3, "error: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("size", ["20k", "150k", "600k"], ids=["first write", "weights", "the log"])
def test_a_full_disk(tmp_path: Path, size: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        done = run_pipeline(disk / "outputs", *SMOKE)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert done.code == 4, done.out + done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert "no space left on the disk" in done.err and "outputs=FOLDER" in done.err
    assert "Traceback" not in done.out + done.err


ALPACA = [{"instruction": f"Name number {n}.", "input": "", "output": f"Number {n}."} for n in range(60)]
MESSAGES = [
    {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": f"{n}, of course."}]}
    for n in range(60)
]


@pytest.mark.parametrize(
    ("name", "rows"),
    [("alpaca.json", ALPACA), ("chats.jsonl", MESSAGES), ("pairs.csv", pairs()), ("canonical.jsonl", pairs())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_shape_of_file_runs_to_the_verdict(tmp_path: Path, name: str, rows: list[dict[str, object]]) -> None:
    import csv

    file = tmp_path / name
    if name.endswith(".csv"):
        with file.open("w", newline="", encoding="utf-8") as out:
            table = csv.DictWriter(out, ["prompt", "completion"])
            table.writeheader()
            table.writerows(rows)
    elif name.endswith(".json"):
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        write(file, rows)
    tiny = ["stages.evaluate.generation.max_rows=2", "stages.evaluate.generation.max_new_tokens=2"]
    done = run_pipeline(tmp_path / "o", *SMOKE, *EASY, *tiny, f"data={file}")
    assert done.code == 0, done.err
    assert done.report["run"]["status"] == "complete"
    task = f"perplexity/{file.stem}"
    assert task in done.report["evaluation"]["comparisons"]["sft_vs_base"]

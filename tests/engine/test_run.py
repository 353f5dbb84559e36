"""Whole runs: cached, damaged, failed, at the same time, from anywhere."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline

SMOKE = "+experiment=smoke"
QUICK = [SMOKE, "run=[filter,sft]", "stages.sft.max_steps=2", "stages.sft.validate_every=null"]

pytestmark = pytest.mark.end_to_end


def outcomes(finished: Finished) -> dict[str, str]:
    return {stage["name"]: stage["outcome"] for stage in finished.report["stages"]}


def artifact(outputs: Path, kind: str) -> Path:
    return next((outputs / "artifacts" / kind).glob("*/"))


def test_the_same_command_again_is_cached(copied: Path) -> None:
    again = run_pipeline(copied, SMOKE)
    assert again.code == 0 and again.err == ""
    assert set(outcomes(again).values()) == {"cached"} and len(outcomes(again)) == 9
    assert not list((copied / "artifacts").rglob("checkpoints"))


def test_a_changed_learning_rate_reruns_what_depends_on_it(copied: Path) -> None:
    changed = run_pipeline(copied, SMOKE, "stages.sft.learning_rate=1e-3", "stages.sft.micro_batch_size=4")
    assert changed.code == 0, changed.err
    ran = {name for name, outcome in outcomes(changed).items() if outcome == "ran"}
    assert ran == {"sft/train", "evaluate/sft", "evaluate/sft_vs_base"}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "name", "harm", "told"),
    [
        ("data", "train.jsonl", flip, "! data/sample: train.jsonl: contents changed in"),
        (
            "filter",
            "ledger.parquet",
            lambda file: file.write_bytes(file.read_bytes()[:99]),
            "! filter: ledger.parquet: con",
        ),
        (
            "sft.train",
            "adapter/adapter_model.safetensors",
            Path.unlink,
            "adapter/adapter_model.safetensors: missing in",
        ),
        ("evaluate.compare", "done.json", lambda file: file.write_text("{"), "done.json: not readable in"),
        ("model", "done.json", Path.unlink, "! model: unfinished in"),
    ],
)
def test_damage_is_told_and_made_again(copied: Path, kind: str, name: str, harm, told: str) -> None:  # noqa: ANN001
    file = artifact(copied, kind) / name
    before, manifest = file.read_bytes(), json.loads((artifact(copied, kind) / "done.json").read_text())
    harm(file)
    done = run_pipeline(copied, SMOKE)
    assert done.code == 0, done.err
    assert told in done.out
    assert sorted(outcomes(done).values()) == ["cached"] * 8 + ["ran"]
    if name != "done.json":
        assert file.read_bytes() == before  # the same result
    after = json.loads((artifact(copied, kind) / "done.json").read_text())
    places = {
        "stage.yaml",
        "metrics.json",
        "adapter/README.md",
        "adapter/adapter_config.json",
    }  # paths, seconds, set order
    assert {k: v for k, v in after["files"].items() if k not in places} == {
        k: v for k, v in manifest["files"].items() if k not in places
    }


def test_a_failed_stage_is_reported_and_the_next_run_continues(copied: Path) -> None:
    """A validation without rows is refused by the training stage; what came before stays."""
    wrong = [SMOKE, "data.sample.splits={train: 0.8, validation: 0.0, test: 0.2}"]
    failed = run_pipeline(copied, *wrong)
    assert failed.code == 3
    assert failed.err.startswith(
        "error: sft/train: validate_every is set, but there are no validation rows; raise data."
    )
    assert failed.err.count("\n") == 1 and "Traceback" not in failed.out
    report = failed.report
    assert report["run"]["status"] == "failed"
    assert [stage["outcome"] for stage in report["stages"]][-1] == "failed"
    page = (copied / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "sft/train" in page and "no validation rows" in page
    log = next((copied / "artifacts/sft.train").glob("*/logs/rank0.log"), None)
    logs = [file.read_text() for file in (copied / "artifacts/sft.train").glob("*/logs/rank0.log")]
    assert log is not None and any("Traceback" in text and "DataError" in text for text in logs)
    right = run_pipeline(copied, *wrong, "stages.sft.validate_every=null", "stages.sft.max_steps=2")
    assert right.code == 0, right.err
    assert outcomes(right)["sft/prepare"] == "cached"


def test_a_failing_worker_gives_exit_code_4(copied: Path) -> None:
    failed = run_pipeline(copied, SMOKE, "stages.sft.adapter.target=[nope]")
    assert failed.code == 4
    assert failed.err.startswith("error: sft/train: ") and "nope" in failed.err and "rank0.log" in failed.err
    assert failed.err.count("\n") == 1
    assert failed.report["run"]["status"] == "failed"


def test_run_id_speaks_of_one_configuration(copied: Path) -> None:
    assert run_pipeline(copied, SMOKE, "run_id=mine").code == 0
    assert run_pipeline(copied, SMOKE, "run_id=mine").code == 0
    other = run_pipeline(copied, SMOKE, "run_id=mine", "seed=1")
    assert other.code == 2
    assert other.err.startswith(
        "error: run_id: mine exists with another configuration; choose another run_id, or remove"
    )
    (copied / "runs/mine/manifest.json").write_text("garbage")
    assert run_pipeline(copied, SMOKE, "run_id=mine").code == 2


def test_two_runs_at_once_make_each_artifact_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", *QUICK, f"outputs={tmp_path}"]
    both = [
        subprocess.Popen([*command, f"run_id={name}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    ended = [(run.communicate(timeout=200), run.returncode) for run in both]
    assert [code for _, code in ended] == [0, 0], ended
    reports = [json.loads((tmp_path / "runs" / name / "report.json").read_text()) for name in ("one", "two")]
    for left, right in zip(reports[0]["stages"], reports[1]["stages"], strict=True):
        assert sorted([left["outcome"], right["outcome"]]) == ["cached", "ran"], left["name"]
    for events in (tmp_path / "artifacts").rglob("events.jsonl"):
        kinds = [json.loads(line)["event"] for line in events.read_text().splitlines()]
        assert kinds.count("done") == 1, events
    assert "being written by process" in ended[0][0][0] + ended[1][0][0]


def test_lock_wait_0_says_who_holds_it(copied: Path) -> None:
    import fcntl
    import socket

    train = artifact(copied, "sft.train")
    (train / "done.json").unlink()
    with train.with_name(train.name + ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since now")
        lock.flush()
        done = run_pipeline(copied, SMOKE, "lock_wait=0")
    assert done.code == 4
    assert done.err.startswith(f"error: sft/train: sft.train/{train.name}: being written by process {os.getpid()} on ")
    assert done.err.count("\n") == 1


def test_from_another_folder_with_spaces_and_unicode(tmp_path: Path) -> None:
    """A relative outputs folder, rows beside it, and a name that a shell and YAML would stumble over."""
    odd = "öut puts 'x' [b] :smile:"
    cwd = tmp_path / odd
    cwd.mkdir()
    rows = "".join(json.dumps({"prompt": f"Say {n}", "completion": f"{n}"}) + "\n" for n in range(60))
    (cwd / "my röws.jsonl").write_text(rows, encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", *QUICK, "data=./my röws.jsonl", "stages.filter.steps.length=null"]
    home = os.environ | {"HOME": str(cwd)}
    done = subprocess.run(
        [*command, "outputs=~/out ü"], cwd=cwd, env=home, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert (cwd / "out ü/runs/latest/report.html").is_file()
    assert odd in done.stdout
    again = subprocess.run(
        [*command, "outputs=out ü"], cwd=cwd, capture_output=True, text=True, check=False, timeout=200
    )
    assert again.stdout.count("cached") == 6, again.stdout + again.stderr
    left = {path.name for path in cwd.iterdir() if path.name[0] != "."}  # HOME is here: settings of libraries
    assert left == {"my röws.jsonl", "out ü"}


def test_plain_output_is_sparse_and_without_escapes(smoke: Finished) -> None:
    assert smoke.err == ""
    assert "\x1b" not in smoke.out and "\r" not in smoke.out
    assert len(smoke.out.splitlines()) < 45
    assert "Warning" not in smoke.out


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    import pty

    parent, child = pty.openpty()
    command = [sys.executable, "-m", "pipeline", *QUICK, "stages.sft.max_steps=150", f"outputs={tmp_path}"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    run = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the terminal's other side is closed
            break
        shown += part
    assert run.wait() == 0
    text = shown.decode(errors="replace")
    assert "━" in text and "sft/train · steps" in text and "/150" in text and "\x1b[" in text


def test_secrets_of_the_environment_are_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MY_PASSWORD")
    for name in names:
        monkeypatch.setenv(name, f"planted-{name}-5ecre7")
    done = run_pipeline(tmp_path, *QUICK)
    failed = run_pipeline(tmp_path, *QUICK, "stages.sft.adapter.target=[nope]")
    assert (done.code, failed.code) == (0, 4), done.err
    for text in (done.out, done.err, failed.out, failed.err):
        assert "5ecre7" not in text
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"5ecre7" not in file.read_bytes(), file

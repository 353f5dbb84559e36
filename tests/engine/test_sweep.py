"""Sweeps: what a launcher gets, what is run again, how failures and kills end, and what is said of it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.launchers_config import LAUNCHERS
from pipeline.sweep import choices, choose_launcher, compose_points
from pipeline.sweep_config import Objective
from pipeline.sweep_jobs import Job, Outcome, best_first, name_of
from tests.conftest import run_pipeline

SMOKE = "+experiment=smoke"
QUICK = (SMOKE, "stages.sft.max_steps=2", "run=[filter,sft]", "stages.sft.validate_every=null")
METRIC = "optimise={metric: training.sft.steps.-1.loss, direction: minimize}"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(str(end.value.code)), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: only a sweep has a launcher; add -m (also for a single job)"),
        (["hydra.launcher.partition=a"], "hydra.launcher.partition=a: only a sweep has a launcher; add -m"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna: only a sweep has a launcher; add -m"),
        (["-m", "hydra/launcher=slrm"], "hydra/launcher=slrm: unknown launcher; did you mean slurm?; allowed: basic, "),
        (["-m", "hydra/launcher=slurm", "hydra.launcher.partion=x"], "did you mean partition?"),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.jobs=0"], "hydra.launcher.jobs: 0 is not allowed"),
        (["-m", "hydra.sweep.dir=x"], "hydra.sweep.dir=x: of Hydra's own settings, a sweep takes hydra/launcher=NAME"),
        (["-m", "seed=interval(1,2)"], "seed=interval(1,2): an interval has no end of values"),
        (["-m", "seed=-1,-2"], "seed: -1 is not allowed"),
        (["optimise={metric: evaluation.x, direction: up}"], "optimise.0.direction: 'up' is not allowed"),
        (["budget=3"], "budget: needs launch.price_per_gpu_hour, without which nothing has a price"),
    ],
)
def test_what_cannot_be_swept_is_told_at_once(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, err = refusal(capsys, SMOKE, *arguments, f"outputs={tmp_path / 'none'}")
    assert code == 2 and err.startswith("error: ") and expected in err and err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_ray_without_a_cluster_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """At once: Ray alone tries for minutes, and writes dozens of lines."""
    pytest.importorskip("ray")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    for form, why in (
        (address, "Connection refused"),
        (f"ray://{address}", "Connection refused"),
        ("x", "Invalid addr"),
    ):
        sweep = ("-m", SMOKE, "seed=1,2", "hydra/launcher=ray", f"hydra.launcher.address={form}", f"outputs={tmp_path}")
        code, err = refusal(capsys, *sweep)
        assert code == 4 and f"error: hydra.launcher.address={form}: no Ray cluster answers (" in err and why in err
        assert err.strip().endswith("`ray start`") and err.count("\n") == 1, err


def test_slurm_without_a_cluster_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sweep = ("-m", SMOKE, "seed=1,2", "hydra/launcher=slurm", f"outputs={tmp_path}")
    code, err = refusal(capsys, *sweep)
    assert code == 2 and "no sbatch on this machine; start on a login node of the cluster" in err
    for name, answer in {"sbatch": "exit 0", "srun": "exit 0", "sinfo": "echo 'Unable to contact' >&2; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    code, err = refusal(capsys, *sweep)
    assert code == 4 and "the cluster cannot be reached (Unable to contact); try `sinfo`" in err
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho main\necho gpu\n", encoding="utf-8")
    code, err = refusal(capsys, *sweep, "hydra.launcher.partition=gpus")
    assert code == 2 and "hydra.launcher.partition: 'gpus' does not exist; there are: gpu, main" in err


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system mounted read-only, which stops root too."""
    place = tmp_path / "read only"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_outputs_folder_is_one_line(capsys: pytest.CaptureFixture[str], read_only: Path) -> None:
    for arguments in ([], ["-m", "hydra/launcher=joblib"]):
        code, err = refusal(capsys, *arguments, SMOKE, f"outputs={read_only}")
        assert code == 4 and err.startswith(f"error: {read_only}") and err.count("\n") == 1, err
        assert "Read-only file system; check the place and its rights, or set outputs=FOLDER" in err


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_outputs_that_cannot_be_written_are_one_line(
    launcher: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A place where even root cannot write, and a file where the folder should be."""
    (tmp_path / "file").touch()
    for outputs, why in {"/proc/none": "No such file or directory", str(tmp_path / "file"): "Not a directory"}.items():
        code, err = refusal(capsys, "-m", SMOKE, "seed=1,2", f"hydra/launcher={launcher}", f"outputs={outputs}")
        assert code == 4 and err.startswith(f"error: {outputs}") and err.count("\n") == 1, err
        assert f"{why}; check the place and its rights, or set outputs=FOLDER" in err


def test_points_are_what_single_runs_would_be() -> None:
    """Composed once and changed on copies, as the same overrides composed one by one."""
    from itertools import product

    from pipeline.cli import compose

    given = [SMOKE, "model=tiny,path", "model.source=x/y", "seed=1,2", "stages.sft.adapter={r: 4},{r: 8}", "run=[sft]"]
    points = [list(point) for point in product(*map(choices, given))]
    assert len(points) == 8
    assert compose_points(points) == [compose(point) for point in points]


def test_a_launchers_settings() -> None:
    assert choices("+experiment=smoke,lora_llama") == ["+experiment=smoke", "+experiment=lora_llama"]
    launcher, rest = choose_launcher(
        ["hydra/launcher=slurm", "seed=1,2", "hydra.launcher.additional_parameters={mail-user: a}"]
    )
    assert launcher.kind == "slurm" and launcher.additional_parameters == {"mail-user": "a"} and rest == ["seed=1,2"]
    with pytest.raises(ConfigError, match="hydra.launcher.timeout_min: 'long' is not allowed"):
        choose_launcher(["hydra/launcher=slurm", "hydra.launcher.timeout_min=long"])
    for kind in LAUNCHERS:
        assert choose_launcher([f"hydra/launcher={kind}"])[0].kind == kind


def test_an_objective_reads_the_report_or_says_what_there_is() -> None:
    report = {"evaluation": {"models": {"sft": {"perplexity/x": {"bits_per_byte": 1.5}}}}, "training": {"a": [1, 2]}}
    path = "evaluation.models.sft.perplexity/x"
    assert Objective(metric=f"{path}.bits_per_byte", direction="minimize").value(report) == 1.5
    assert Objective(metric="training.a.-1", direction="maximize").value(report) == 2.0
    for metric, expected in {
        f"{path}.bits": f"optimise.metric: {path} has no 'bits': \\['bits_per_byte'\\]",
        path: "is not a number; there are bits_per_byte",
        "training.a.2": "training.a has no '2': list",
    }.items():
        with pytest.raises(KeyError, match=expected):
            Objective(metric=metric, direction="minimize").value(report)


def test_the_best_job_stands_first() -> None:
    jobs = [Outcome(0, [], "ran", values=[2.0]), Outcome(1, [], "failed", 4), Outcome(2, [], "ran", values=[1.0])]
    assert [one.number for one in best_first(jobs, ["minimize"])] == [2, 0, 1]
    assert [one.number for one in best_first(jobs, ["maximize"])] == [0, 2, 1]
    assert [one.number for one in best_first(jobs, [])] != []


def test_a_stopped_job_ends_a_sweep_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A signal means the sweep, not only the job that it met."""
    from pipeline import launchers

    ends = iter([Outcome(0, [], "ran"), Outcome(1, [], "stopped", 75), Outcome(2, [], "ran")])
    monkeypatch.setattr(launchers, "run_job", lambda _: asdict(next(ends)))
    jobs = [Job(number, [], {}, str(tmp_path)) for number in range(3)]
    assert [outcome.status for outcome in launchers.basic(None, jobs, tmp_path)] == ["ran", "stopped"]


def test_a_jobs_run_is_named_by_what_decides_it() -> None:
    first, second, elsewhere = compose_points([[SMOKE, "seed=1"], [SMOKE, "seed=2"], [SMOKE, "seed=1", "outputs=x"]])
    names = [name_of(validate(RunConfig, plain)) for plain in (first, second, elsewhere)]
    assert names[0] == names[2] != names[1] and names[0].startswith("smoke-")


def sweep_record(outputs: Path) -> dict:
    (file,) = (outputs / "sweeps").glob("*/sweep.json")
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.end_to_end
def test_a_failed_job_is_listed_and_only_what_is_missing_runs_again(copied: Path) -> None:
    """One job trains on a broken dtype's loss and fails; after the fix of the world, the others stay cached."""
    sweep = ["-m", *QUICK, "stages.sft.learning_rate=1e-3,1e30", "stages.sft.max_steps=6", METRIC]
    done = run_pipeline(copied, *sweep)
    assert done.code == 4, done.err
    assert "error: sft/train: StageFailed: the loss of step" in done.err
    assert "1 of 2 jobs have not succeeded" in done.out and "the same command runs only what is missing" in done.out
    record = sweep_record(copied)
    assert [job["status"] for job in record["jobs"]] == ["ran", "failed"] and record["jobs"][0]["values"][0] > 0
    (failed,) = (copied / "sweeps").glob("*/1/failed.json")
    told = json.loads(failed.read_text(encoding="utf-8"))
    assert told["code"] == 4 and "the loss of step" in told["message"]
    assert not list((copied / "sweeps").glob("*/0/failed.json"))
    reports = {file: file.stat().st_mtime_ns for file in (copied / "runs").glob("smoke-*/report.json")}
    again = run_pipeline(copied, *sweep)
    assert again.code == 4 and [job["status"] for job in sweep_record(copied)["jobs"]] == ["cached", "failed"]
    assert sweep_record(copied)["jobs"][0]["values"] == record["jobs"][0]["values"]
    untouched = [file for file, moment in reports.items() if file.stat().st_mtime_ns == moment]
    assert len(untouched) == 1, "the run of the finished job must stay as it is"


FILTER = (SMOKE, "run=[filter]", "data.sample.limit=60,80")
"""Two jobs of seconds, without torch."""


@pytest.mark.end_to_end
@pytest.mark.parametrize("launcher", ["basic", "joblib", "local", pytest.param("ray", marks=pytest.mark.slow)])
def test_every_launcher_runs_every_job_once(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip({"local": "submitit"}.get(launcher, launcher if launcher != "basic" else "json"))
    outputs = tmp_path / "with space"
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    sweep = ("-m", *FILTER, f"hydra/launcher={launcher}")
    done = run_pipeline(outputs, *sweep, cwd=cwd)
    assert done.code == 0, done.out + done.err
    assert sorted(job["status"] for job in sweep_record(outputs)["jobs"]) == ["ran", "ran"]
    assert len(list((outputs / "artifacts" / "filter").glob("*/done.json"))) == 2
    assert not list(cwd.iterdir())
    done = run_pipeline(outputs, *sweep, cwd=cwd)
    assert done.code == 0 and [job["status"] for job in sweep_record(outputs)["jobs"]] == ["cached", "cached"]


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("launcher", ["joblib", "local"])
def test_a_killed_worker_is_listed_and_the_others_go_on(launcher: str, tmp_path: Path) -> None:
    """Kill one job's process as soon as it starts, as often as it is started."""
    pytest.importorskip({"local": "submitit"}.get(launcher, launcher))
    command = [sys.executable, "-m", "pipeline", "-m", *FILTER, f"hydra/launcher={launcher}", f"outputs={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(plant(tmp_path)), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 4, done.stdout + done.stderr
    jobs = {job["number"]: job for job in sweep_record(tmp_path)["jobs"]}
    assert (jobs[0]["status"], jobs[1]["status"]) == ("lost", "ran"), done.stdout + done.stderr
    assert "killed" in jobs[0]["message"] and jobs[0]["message"] in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(job["status"] for job in sweep_record(tmp_path)["jobs"]) == ["cached", "ran"]


def plant(folder: Path) -> Path:
    """A start-up file that makes every process of job 0 kill itself once the job has begun."""
    place = folder / "planted"
    place.mkdir()
    code = (
        "import builtins, os, signal\n"
        "shown = builtins.print\n"
        "def deadly(*words, **named):\n"
        "    shown(*words, **named)\n"
        "    if words and str(words[0]).startswith('sweep: ') and 'limit=60' in words[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "builtins.print = deadly\n"
    )
    (place / "sitecustomize.py").write_text(code, encoding="utf-8")
    return place

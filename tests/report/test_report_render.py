"""The page and the Markdown: verdict first, complete, the same bytes, also for half a run; refusals are one line."""

import copy
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.report.__main__ import main
from pipeline.report.charts import Curve, smooth, thinned
from pipeline.report.console import console_summary
from pipeline.report.load import ReportError, load_report, parse
from pipeline.report.metrics import lower_is_better
from pipeline.report.render import render_html, render_markdown, write_report
from pipeline.report.results import strip
from pipeline.report.schema import Comparison

SAMPLE_FILE = Path(__file__).parent / "sample_report.json"
VERDICT = "lowers held-out bits per byte by 0.106 (95 % interval 0.087 to 0.125, n = 100)."


@pytest.fixture
def sample() -> dict[str, Any]:
    return json.loads(SAMPLE_FILE.read_text("utf-8"))


def failed(sample: dict[str, Any]) -> dict[str, Any]:
    failure = {"stage": "sft/train", "message": "loss became NaN at step 7", "log": "logs/sft.log"}
    sample["run"] |= {"status": "failed", "failed": failure}
    return sample | {"verdict": None, "evaluation": {}}


def test_the_verdict_comes_first_and_every_section_follows(sample: dict[str, Any]) -> None:
    page = render_html(parse(sample))
    marks = ["</head>", "The fine-tune " + VERDICT, "SmolLM2-135M-Instruct (LlamaForCausalLM", "On the other tasks"]
    marks += [
        f'<section id="{name}"' for name in ("data", "training", "metrics", "samples", "stages", "policies", "record")
    ]
    marks += ['<section class="warnings"']
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)


def test_markdown_opens_with_the_verdict(sample: dict[str, Any]) -> None:
    lines = render_markdown(parse(sample)).splitlines()
    assert lines[0] == "# ✔ Better"
    assert lines[2] == f"**The fine-tune {VERDICT}**"


def test_the_same_report_gives_the_same_bytes(sample: dict[str, Any], tmp_path: Path) -> None:
    """Also in another process with another hash seed and locale."""
    page = write_report(sample, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.md"]
    shutil.copy(SAMPLE_FILE, other := tmp_path / "report.json")
    first = [page.read_bytes(), (tmp_path / "report.md").read_bytes()]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    command = [sys.executable, "-m", "pipeline.report", str(other.parent)]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert [page.read_bytes(), (tmp_path / "report.md").read_bytes()] == first


@pytest.mark.parametrize(
    "part",
    ["config", "environment", "model", "data", "stages", "training", "evaluation", "verdict", "reproduce", "warnings"],
)
@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_every_part_may_be_missing(
    sample: dict[str, Any], part: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.render.training_charts", lambda *_: [])
    empty = [] if isinstance(sample[part], list) else {}
    report = {key: value for key, value in sample.items() if key != part} | (
        {} if how == "absent" else {part: empty if how == "empty" else None}
    )
    if how == "null" and part in ("evaluation", "reproduce"):
        report[part] = {}
    parsed = parse(report)
    assert "</html>" in render_html(parsed) and "None" not in render_markdown(parsed)


def test_every_single_value_may_be_null(sample: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that knows nothing but its id and the keys of its maps."""
    monkeypatch.setattr("pipeline.report.render.training_charts", lambda *_: [])

    def hollow(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: hollow(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [hollow(item) for item in value if isinstance(item, dict)]
        required = ("schema_version", "step", "rows", "dropped", "supervised", "train", "validation", "test")
        return (
            value
            if key in required
            else ""
            if key in ("id", "status", "name", "text") or len(str(value)) == 64
            else None
        )

    parsed = parse(hollow(sample))
    assert "None" not in render_markdown(parsed)
    assert ">None<" not in render_html(parsed)


def test_a_failed_run_says_where_why_and_what_next(sample: dict[str, Any]) -> None:
    page, text = (make(parse(failed(sample))) for make in (render_html, render_markdown))
    for shown in (page, text):
        where, why = shown.index("Stopped at sft/train"), shown.index("loss became NaN at step 7")
        next_ = shown.index("Start the same command again: python -m pipeline +experiment=lora")
        assert where < why < shown.index("logs/sft.log") < next_
    assert "nothing is known yet" in page


def test_a_run_without_evaluation_says_so(sample: dict[str, Any]) -> None:
    page = render_html(parse(sample | {"verdict": None, "evaluation": {}}))
    assert "Not measured" in page and "Add an evaluate stage" in page


def test_colour_is_never_the_only_sign(sample: dict[str, Any]) -> None:
    page = render_html(parse(sample))
    table = page[page.index('<section id="metrics"') : page.index('<section id="samples"')]
    assert table.count("Better</span>") == 8 and table.count("Worse</span>") == 1
    assert table.count("Cannot tell</span>") == 2


def test_a_huge_run_stays_below_two_megabytes(sample: dict[str, Any]) -> None:
    training = sample["training"]["sft"]
    training["steps"] = [
        {"step": i, "loss": 2 + math.sin(i), "learning_rate": 1e-4, "grad_norm": 1.0} for i in range(20_000)
    ]
    training["validation"] = [{"step": i, "loss": 2.0} for i in range(0, 20_000, 20)]
    training["preview"] = [{"id": "x", "pieces": [{"text": "word " * 2_000, "supervised": True}] * 20}] * 20
    samples = sample["evaluation"]["samples"]["sft_vs_base"]
    samples["wins"] = [{"prompt": "p " * 20_000, "base": "b " * 20_000, "tuned": "t " * 5_000}] * 50
    sample["config"]["long"] = {f"key{i}": "v" * 5000 for i in range(5000)}
    assert len(render_html(parse(sample)).encode()) <= 2 * 2**20


def test_thinning_keeps_the_spike_and_smoothing_starts_at_the_first_value() -> None:
    values = [1.0] * 10_000
    values[4321] = 99.0
    kept = thinned(Curve(list(range(10_000)), values))
    assert 99.0 in kept.values and len(kept.steps) <= 800 and kept.steps == sorted(kept.steps)
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])


@pytest.mark.parametrize("metric", ["bits_per_byte", "rougeL"])
def test_right_is_better_in_every_plot(metric: str) -> None:
    sign = -1 if lower_is_better(metric) else 1
    plot = strip(
        Comparison(difference=0.1 * sign, low=min(0.05 * sign, 0.2 * sign), high=max(0.05 * sign, 0.2 * sign)), metric
    )
    assert plot is not None and 0 <= plot.zero < plot.low < plot.dot < plot.high <= 100
    assert strip(Comparison(difference=0.1), metric) is None
    assert strip(Comparison(difference=math.nan, low=0.0, high=1.0), metric) is None


def test_the_console_summary_fits_and_is_plain_in_a_file(sample: dict[str, Any]) -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(console_summary(sample, Path("outputs/runs/latest/report.html")))
    text = out.getvalue()
    assert text.splitlines()[0].startswith("Better: the fine-tune lowers")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "\x1b" not in text and "−0.125 to −0.087" in text and "outputs/runs/latest/report.html" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no report of a Provetune run"),
        ('{"name": "x"}', "no report of a Provetune run"),
        ('{"schema_version": 2, "run": {}}', "schema_version 2 is newer than this Provetune reads (1)"),
        ('{"schema_version": "1", "run": {}}', "schema_version is '1'; a whole number from 1 to 1 is known"),
        ('{"schema_version": 1, "run": {"seconds": "\\u001b[31m"}}', "run.seconds: Input should be a valid number"),
        ("\x00\xff", "not valid JSON"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text(content, "latin-1")
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "\x1b" not in error
    with pytest.raises(ReportError, match="report.json"):
        load_report(tmp_path)


def test_missing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs := tmp_path / "outputs" / "runs").mkdir(parents=True)
    for arguments, message in (
        ([str(outputs.parent)], f"; {outputs} holds runs: give one, or all of it"),
        ([str(tmp_path / "none")], "no such run; give"),
        ([str(tmp_path)], "no such file; a run writes it when it ends"),
        ([str(tmp_path / "a"), "b"], "no such run; give"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_latest_is_found_and_the_verdict_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "outputs" / "runs" / "one"
    run.mkdir(parents=True)
    shutil.copy(SAMPLE_FILE, run / "report.json")
    (run.parent / "latest").symlink_to(run.name)
    monkeypatch.chdir(tmp_path)
    assert main(["latest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Better: the fine-tune " + VERDICT and lines[1].endswith("latest/report.html")
    assert (run / "report.html").exists()


def test_a_failed_write_leaves_the_old_report(
    sample: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(copy.deepcopy(sample), tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(sample | {"verdict": None}, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.md"]
    assert (tmp_path / "report.html").read_bytes() == before


def test_rendering_never_imports_torch() -> None:
    code = "import sys, pipeline.report.render, pipeline.report.console; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.slow
def test_a_browser_finds_nothing_to_complain_about(sample: dict[str, Any], tmp_path: Path) -> None:
    """Chromium runs the page under its own policy: the script is allowed and shows the copy button."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = write_report(sample, tmp_path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *flags, "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    button = done.stdout[done.stdout.index("<button") :].split(">")[0]
    assert "hidden" not in button
    assert "Content Security Policy" not in done.stderr

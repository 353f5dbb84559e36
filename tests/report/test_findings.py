"""Forgetting, fairness, judge, overlap, experts, the Sankey; runs that were stopped; reports of older versions."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import read_json
from pipeline.report.__main__ import main
from pipeline.report.findings import forgetting
from pipeline.report.load import parse
from pipeline.report.render import render_html, render_markdown
from pipeline.report.results import metric_rows
from pipeline.report.sankey import sankey_chart
from pipeline.report.schema import FunnelStep

HERE = Path(__file__).parent
SAMPLE = json.loads((HERE / "sample_report.json").read_text("utf-8"))
CELL = {
    "base": 0.62,
    "tuned": 0.58,
    "difference": -0.04,
    "low": -0.09,
    "high": 0.01,
    "n": 300,
    "verdict": "cannot tell",
}


def rich() -> dict[str, Any]:
    """The sample with everything that other runs measure."""
    report = copy.deepcopy(SAMPLE)
    report["evaluation"]["comparisons"]["sft_vs_base"]["pairs/crows"] = {"stereotype_share": CELL}
    example = {"id": "item-1", "row": "row-17", "row_dataset": "xsum", "share": 0.9, "text": "t"}
    report["evaluation"]["overlap"] = {"general": {"items": 120, "removed": 3, "examples": [example]}}
    interval = {"value": 0.61, "low": 0.52, "high": 0.7}
    card = {"ties": 0.12, "win_rate": interval, "failures": {"count": 2}, "warnings": ["<b>related</b>"]}
    report["evaluation"]["judge"] = {"sft_vs_base": {"xsum": {"card": card, "labelling_page": "judge/label.html"}}}
    report["evaluation"]["scale"] = {"xsum": 1.98}
    tokens = [{"token": " the", "count": 3, "part": 0.4}]
    rows = [{"layer": "0", "expert": n, "share": share, "tokens": tokens} for n, share in enumerate((0.7, 0.3))]
    report["training"]["sft"]["experts"] = rows
    return report


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_every_finding_is_shown_in_page_and_markdown() -> None:
    page, text = text_of(render_html(parse(rich()))), render_markdown(parse(rich()))
    for shown in (page, text):
        assert "The tuned model is worse than the base on text that it was not tuned on: general." in shown
        assert "How far the judge" in shown and "0.61 (0.52 to 0.7)" in shown and "failures: count" in shown
        assert "an n-gram model of the training rows reaches bits per byte of 1.98 on xsum" in shown
        assert (
            "item-1 in row row-17 of xsum" in shown
            and "Fairness" in shown
            and "share of stereotypes preferred" in shown
        )
        assert "python -m pipeline.verify outputs/runs/" in shown and "Experts" in shown and "70 %" in shown
    assert "<b>related</b>" not in render_html(parse(rich())) and "<b>related" not in text


def test_a_plain_run_has_none_of_these_sections() -> None:
    plain = copy.deepcopy(SAMPLE)
    plain["config"]["data"]["general"]["role"] = "train"
    page = render_html(parse(plain))
    assert not any(f'<section id="{name}"' in page for name in ("forgetting", "fairness", "judge"))
    assert "Experts" not in page and "stand in the training data" not in page


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("worse", "The tuned model is worse than the base on text that it was not tuned on: general."),
        ("better", "Nothing was forgotten that was measured: the tuned model is better there, too."),
        ("cannot tell", "Cannot tell whether something was forgotten on general."),
    ],
)
def test_forgetting_says_what_the_rows_say(verdict: str, sentence: str) -> None:
    report = copy.deepcopy(SAMPLE)
    for cell in report["evaluation"]["comparisons"]["sft_vs_base"]["perplexity/general"].values():
        cell["verdict"] = verdict
    parsed = parse(report)
    found = forgetting(parsed, [row for rows in metric_rows(parsed).values() for row in rows])
    assert found is not None and found.sentence == sentence
    assert {row.task for row in found.rows} == {"perplexity/general"}


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=8))
def test_any_funnel_is_a_sound_drawing(steps: list[tuple[str, int, int]]) -> None:
    funnel = [FunnelStep(step=name, rows=rows, dropped=dropped) for name, rows, dropped in steps]
    chart = sankey_chart([FunnelStep.model_validate(each.model_dump()) for each in funnel])
    if chart is None:
        assert len(steps) < 2 or not any(rows + dropped for _, rows, dropped in steps)
        return
    for svg in (chart.wide, chart.narrow):
        if all(char.isprintable() for name, _, _ in steps for char in name):
            ElementTree.fromstring(svg)
        heights = [float(each) for each in re.findall(r'class="kept"[^>]* height="([\d.]+)"', svg)]
        assert len(heights) == len(steps) and max(heights) <= 96.0 and "nan" not in svg


def test_bands_are_as_high_as_their_rows() -> None:
    chart = sankey_chart([FunnelStep(step="read", rows=100), FunnelStep(step="length", rows=25, dropped=75)])
    assert chart is not None
    assert re.findall(r'class="flow"[^>]* height="([\d.]+)"', chart.wide) == ["96.0"]
    assert chart.wide.count('class="lost"') == 1 and "−75" in chart.wide


def test_a_report_of_version_1_still_renders() -> None:
    """`report_v1.json` was written before overlap, judge and experts existed, and is never changed."""
    old = json.loads((HERE / "report_v1.json").read_text("utf-8"))
    assert old["schema_version"] == 1 and not {"overlap", "judge"} & old["evaluation"].keys()
    page, text = render_html(parse(old)), render_markdown(parse(old))
    assert old["verdict"]["sentence"].removeprefix("Better: the") in page and "Reproduce" in page
    assert all(row in text for row in ("bits per byte", "ROUGE-Lsum", "chrF"))


@pytest.mark.end_to_end
def test_a_killed_run_gets_a_report_that_says_where_it_stopped(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (copied / "runs" / "latest").resolve()
    stage = next(each for each in read_json(run / "report.json")["stages"] if each["name"] == "evaluate/sft")
    shutil.rmtree(run / "model")
    for name in ("report.json", "report.html", "report.md", "seal.json"):
        (run / name).unlink()
    (copied / stage["artifact"] / "done.json").unlink()
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.startswith("Failed at evaluate/sft after –: The run was stopped here from outside")
    page = text_of((run / "report.html").read_text("utf-8"))
    assert "Stopped at evaluate/sft" in page and "Start the same command again" in page and "sft/train" in page
    assert not (run / "report.json").exists()
    with (copied / stage["artifact"] / "logs" / "events.jsonl").open("a") as events:
        events.write('{"event": "failed", "message": "out of memory at row 7"}\n')
    assert main([str(run)]) == 0 and "out of memory at row 7" in capsys.readouterr().out
    (run / "manifest.json").write_text("{")
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert "manifest.json: damaged" in error and error.count("\n") == 1


AXE = """<script>{source}</script><pre id="axe-result"></pre><script>
axe.run(document, {{resultTypes: ["violations"]}}).then((found) => {{
  document.getElementById("axe-result").textContent =
    "AXE" + JSON.stringify(found.violations.map((each) => [each.impact, each.id, each.nodes[0].html])) + "END";
}});</script></body>"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("width", [1300, 500])
def test_axe_finds_nothing_serious(scheme: int, width: int, tmp_path: Path) -> None:
    """`AXE_CORE` names the axe.min.js of npm's axe-core; the page's own policy is lifted for it."""
    browser, script = shutil.which("chromium") or shutil.which("google-chrome"), os.environ.get("AXE_CORE")
    if browser is None or not script:
        pytest.skip("needs Chromium, and AXE_CORE=…/axe-core/axe.min.js")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_html(parse(rich())))
    page = page.replace("<details>", "<details open>")
    source = Path(script).read_text("utf-8")
    (tmp_path / "page.html").write_text(page.replace("</body>", AXE.format(source=source)), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--window-size={width},2000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"]
    command = [browser, *flags, "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    result = re.search(r"AXE(\[.*\])END</pre>", done.stdout)
    assert result, done.stdout[-500:]
    found = json.loads(result[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert not [each for each in found if each[0] in ("serious", "critical")], found


def test_rendering_a_run_never_imports_torch(tmp_path: Path) -> None:
    shutil.copy(HERE / "sample_report.json", tmp_path / "report.json")
    code = "import sys; from pipeline.report.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    assert done.stdout.splitlines()[-1] == "0 False"

"""Text from data, models and errors never becomes HTML, Markdown, SVG, terminal control or rich markup."""

import base64
import copy
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipeline.report import render
from pipeline.report.console import console_summary
from pipeline.report.load import parse
from pipeline.report.render import render_html, render_markdown
from pipeline.report.safe_text import fenced, markdown, visible

SAMPLE = json.loads((Path(__file__).parent / "sample_report.json").read_text("utf-8"))

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(1)</script>",
    "</script><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "| a | b |\n|---|---|\n# head\n[x](javascript:alert(1)) ![y](http://evil.example/z) `` ``` ```` <b>bold</b>",
    "{{ 7 * 191 }}{% raw %}",
    "\x1b[31mred\x1b]0;title\x07\x00\x9b2J",
    "[red]markup[/red] [link=http://evil.example]x[/link]",
    "abc\u202egnp.exe\u2066",
    "\ud800 lone surrogate",
]


def planted(value: Any, text: str) -> Any:
    """The report with `text` behind every string."""
    if isinstance(value, str):
        return f"{value}{text}"
    if isinstance(value, list):
        return [planted(item, text) for item in value]
    if isinstance(value, dict):
        return {key: planted(item, text) for key, item in value.items()}
    return value


def with_hostile_names(report: dict[str, Any], text: str) -> dict[str, Any]:
    """`report` with `text` in the names of data sets, models, comparisons, tasks, metrics and settings too."""

    def renamed(tree: dict[str, Any], depth: int) -> dict[str, Any]:
        return {f"{key}{text}": renamed(item, depth - 1) if depth > 1 else item for key, item in tree.items()}

    evaluation = report["evaluation"]
    for part, depth in (("models", 3), ("comparisons", 3), ("samples", 1), ("policies", 2)):
        evaluation[part] = renamed(evaluation[part], depth)
    for part in ("config", "data", "training"):
        report[part] = renamed(report[part], 1)
    for data in report["data"].values():
        data["splits"] = renamed(data["splits"], 1)
    for stage in report["stages"]:
        stage["metrics"] = renamed(stage["metrics"], 1)
    report["environment"]["packages"] = renamed(report["environment"]["packages"], 1)
    return report


def hostile_report(text: str, failed: bool = False) -> dict[str, Any]:
    report = with_hostile_names(planted(copy.deepcopy(SAMPLE), text), text)
    if failed:
        report["run"] |= {"status": "failed", "failed": {"stage": text, "message": text, "log": text}}
    return report


class Skeleton(HTMLParser):
    """Every element with its attribute names, and the values that could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.dangerous: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        for name, value in attrs:
            local = (value or "").startswith("#")
            if name.startswith("on") or (name in ("src", "href", "xlink:href", "action") and not local):
                self.dangerous.append(f"{tag} {name}={value}")

    @classmethod
    def of(cls, page: str) -> "Skeleton":
        skeleton = cls()
        skeleton.feed(page)
        skeleton.close()
        return skeleton


def html_of(report: dict[str, Any]) -> str:
    return render_html(parse(report))


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts hold only numbers and take most of the time; `test_charts_show_no_text_of_the_report` looks at them."""
    monkeypatch.setattr(render, "training_charts", lambda *_: [])


def test_charts_show_no_text_of_the_report() -> None:
    page = html_of(hostile_report("<script>alert(1)</script>"))
    charts = re.findall(r'<svg viewBox="0 0 [\d.]+ [\d.]+" width=.*?</svg>', page, re.DOTALL)
    funnels = [chart for chart in charts if 'class="flow"' in chart]  # they name the steps
    assert len(charts) == 10 and len(funnels) == 4
    assert "alert" not in "".join(set(charts) - set(funnels)) and "<script" not in "".join(funnels)


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text: str, failed: bool) -> None:
    harmless = Skeleton.of(html_of(hostile_report("zzz" + "\n" * text.count("\n"), failed)))
    page = html_of(hostile_report(text, failed))
    skeleton = Skeleton.of(page)
    ignored = {("span", ("class", "aria-hidden")), ("span", ("class",)), ("mark", ())}  # newline signs, tokens, diffs
    assert [e for e in skeleton.elements if e not in ignored] == [e for e in harmless.elements if e not in ignored]
    assert skeleton.dangerous == []
    assert [tag for tag, _ in skeleton.elements].count("script") == 1
    assert not set(page) & set("\x00\x07\x1b\x9b\u202e\u2066\ud800")
    page.encode("utf-8")


def test_the_page_names_no_other_address() -> None:
    page = html_of(SAMPLE)
    assert Skeleton.of(page).dangerous == []
    assert "default-src 'none'" in page and "url(" not in page.replace("url(#", "") and "@import" not in page
    assert "http:" not in page.replace("http-equiv", "") and "https:" not in page


def test_the_policy_allows_exactly_the_script_of_the_page() -> None:
    page = html_of(SAMPLE)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#43;", "+")


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_stays_text(text: str) -> None:
    page = render_markdown(parse(hostile_report(text)))
    outside = re.sub(r"^(`{3,})[a-z]*\n.*?^\1$", "", page, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside and "<img" not in outside and "<b>" not in outside
    assert not set(page) & set("\x00\x1b\x9b\u202e")
    # a table row keeps its number of columns: a pipe in the text is escaped
    for line in page.splitlines():
        if line.startswith("| sft"):
            assert line.replace("\\|", "").count("|") == 9


def test_markdown_escapes_links_code_and_tags() -> None:
    assert markdown("[x](javascript:y) `a` <b> | *c* _d_") == (
        "\\[x\\](javascript:y) \\`a\\` &lt;b&gt; \\| \\*c\\* \\_d\\_"
    )
    assert markdown("a\nb") == "a ↵ b"
    assert "https:" not in markdown("see https://evil.example")


@given(st.text(alphabet="`ab\n", max_size=40))
def test_a_code_block_cannot_be_closed_from_inside(text: str) -> None:
    lines = fenced(text).split("\n")
    assert lines[0] == lines[-1] and set(lines[0]) == {"`"}
    assert lines[0] not in "\n".join(lines[1:-1])


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_visible_text_holds_no_control_character(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or (ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0) for char in shown)
    assert visible(shown) == shown


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_the_console_shows_markup_as_text(text: str, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, color_system=None, legacy_windows=False)
    console.print(console_summary(hostile_report(text), Path(f"runs/{text[:5]}/report.html".replace("\x00", ""))))
    printed = out.getvalue()
    assert not set(printed) & set("\x07\x9b\u202e\x00\ud800")
    assert "]8;" not in printed and "\x1b[31m" not in printed
    if text.startswith("[red]"):
        assert "[red]markup" in printed


def test_a_planted_marker_reaches_page_and_markdown() -> None:
    """Guards the tests above: the hostile text is really in what they look at."""
    marker = "qqMARKqq"
    parsed = parse(hostile_report(marker))
    assert render_html(parsed).count(marker) > 150
    assert render_markdown(parsed).count(marker) > 100


def test_the_table_on_the_console_shows_markup_as_text() -> None:
    report = copy.deepcopy(SAMPLE)
    cells = report["evaluation"]["comparisons"]["sft_vs_base"]["rouge/xsum"]
    report["evaluation"]["comparisons"] = {"[i]a": {"[red]x[/b]": {"[dim]y": cells["rougeL"]}}}
    out = io.StringIO()
    Console(file=out, width=100).print(console_summary(report))
    assert all(text in out.getvalue() for text in ("[i]a", "[red]x[/b]", "[dim]y"))

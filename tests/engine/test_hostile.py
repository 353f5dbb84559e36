"""Data, names and model output are hostile text: the report shows them, and nothing runs."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import run_pipeline

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Active(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            remote = name in ("src", "href") and (value or "").startswith(("http:", "https:", "//", "javascript:", "x"))
            if name.startswith("on") or remote:
                self.found.append(f"{tag} {name}={value}")
        if tag == "script":
            self.found.append(tag)


@pytest.mark.end_to_end
def test_hostile_rows_and_file_names_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "<script>alert(3)<b>.jsonl"
    rows = [{"prompt": f"{EVIL} say {n} \x1b[31m", "completion": f"{EVIL} {n}"} for n in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    steps = ["stages.filter.steps.language=null", "stages.sft.max_steps=2", "stages.sft.validate_every=null"]
    tiny = ["stages.evaluate.generation.max_rows=2", "stages.evaluate.generation.max_new_tokens=2"]
    done = run_pipeline(tmp_path / "o", "+experiment=smoke", *steps, *tiny, "stages.sft.max_length=400", f"data={file}")
    assert done.code == 0, done.err
    page = (tmp_path / "o/runs/latest/report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    parser = Active()
    parser.feed(page)
    assert not [one for one in parser.found if "alert" in one]
    assert "\x1b" not in page + done.out
    markdown = (tmp_path / "o/runs/latest/report.md").read_text(encoding="utf-8")
    assert "\x1b" not in markdown


@pytest.mark.parametrize("name", ["<b>", "a.b c", "../x", "base"])
def test_names_of_data_sets_are_plain(name: str) -> None:
    from pipeline.config import RunConfig, validate
    from pipeline.errors import ConfigError

    scratch = {"source": "scratch", "scratch": {}}
    with pytest.raises(ConfigError, match="cannot name a stage or data set: letters, digits, - and _ only, not 'base'"):
        validate(RunConfig, {"model": scratch, "data": {name: {"source": "x.jsonl"}}})

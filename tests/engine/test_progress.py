"""Progress: whole events only, sparse lines without a terminal, hostile titles."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import console
from pipeline.console import Display, duration
from pipeline.progress import EventReader, EventWriter


def test_a_loop_tells_its_beginning_and_end(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "events.jsonl"
    reader, writer = EventReader(file), EventWriter(file)
    assert list(writer.track(range(3), "rows")) == [0, 1, 2]
    events = reader.read()
    assert [(event["title"], event["done"], event["total"]) for event in events] == [("rows", 0, 3), ("rows", 3, 3)]
    assert reader.read() == []
    writer.close()


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"event": "of an earlier try')
    reader = EventReader(file)
    with file.open("a") as out:
        out.write('{"event": "a"}\n{"eve')
        out.flush()
        assert reader.read() == [{"event": "a"}]
        out.write('nt": "b"}\n')
    assert reader.read() == [{"event": "b"}]


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch, title: str = "rows", every: float = 0.0) -> str:
    monkeypatch.setattr(console, "LINE_EVERY", every)
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=terminal, width=100, emoji=False, highlight=False))
    display.start("filter")
    for done in range(5):
        display.event({"event": "progress", "title": title, "done": done, "total": 5, "note": "[red]note"})
    display.finish("filter", "ran", "rows 5")
    return out.getvalue()


def test_without_a_terminal_lines_are_sparse_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = shown(False, monkeypatch, every=15)
    assert quiet.count("\n") == 1 and quiet.startswith("✓ filter") and "\x1b" not in quiet
    assert "filter · rows 4/5  [red]note" in shown(False, monkeypatch)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "━" in shown(True, monkeypatch)


def test_hostile_titles_are_shown_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shown(False, monkeypatch, "\x1b[2J[bold]:smile:")
    assert "\\x1b[2J[bold]:smile:" in plain and "\x1b" not in plain


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.44, "0.4 s"), (12, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words

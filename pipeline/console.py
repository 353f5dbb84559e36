"""What a person sees while a run goes on: a bar on a terminal, sparse plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.errors import printable

LINE_EVERY = 15.0
"""Seconds between plain progress lines."""

MARKS = {"ran": ("✓", "green"), "cached": ("=", "cyan"), "resumed": ("↻", "green"), "failed": ("✗", "red")}


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Display:
    """Shows the run's nodes as they go: call `start`, `event` …, `finish` for each."""

    def __init__(self, console: Console):
        self.console = console
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._node = ""
        self._started = self._told = 0.0

    def start(self, node: str) -> None:
        """A node begins."""
        self._node, self._started, self._told = node, time.monotonic(), time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._progress = Progress(*columns, console=self.console, transient=True)
            self._bar = self._progress.add_task(f"{node}", total=None, note="")
            self._progress.start()

    def event(self, event: dict[str, Any]) -> None:
        """A worker told how far it is."""
        if event["event"] in ("warning", "log"):
            self.say(f"{'!' if event['event'] == 'warning' else ' '} {self._node}: {event['message']}")
        if event["event"] != "progress":
            return
        title = f"{self._node} · {event['title']}"
        if self._progress is not None and self._bar is not None:
            self._progress.update(
                self._bar,
                description=escape(title),
                completed=event["done"],
                total=event["total"],
                note=escape(event["note"]),
            )
        elif time.monotonic() - self._told >= LINE_EVERY:
            total = f"/{event['total']}" if event["total"] else ""
            note = f"  {event['note']}" if event["note"] else ""
            self.say(f"  {title} {event['done']}{total}{note}")
            self._told = time.monotonic()

    def finish(self, node: str, outcome: str, note: str = "") -> None:
        """A node ended: one line stays."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._bar = None
        took = "" if outcome == "cached" else duration(time.monotonic() - self._started)
        mark, colour = MARKS[outcome]
        line = Text.assemble(
            (f"{mark} ", colour), f"{node:<23} ", (f"{outcome:<8}", colour), f"{took:>12}  ", (note, "dim")
        )
        self.console.print(line, soft_wrap=True)

    def say(self, message: str) -> None:
        """A plain line."""
        self.console.print(Text(printable(message)), soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]], right: frozenset[int] = frozenset()) -> Table:
    """A small table; columns in `right` are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    return made

"""What the terminal shows at the end of a run: verdict, metrics with intervals, path of the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.report.formatting import duration
from pipeline.report.load import parse
from pipeline.report.results import MetricRow, confidence, headline_row, metric_rows
from pipeline.report.safe_text import one_line, visible
from pipeline.report.schema import Report
from pipeline.report.story import not_measured

_WIDTH = 100
_NOTE = "A verdict also needs a p value that survives Holm's correction for the number of metrics."
_STYLES = {"better": "bold green", "worse": "bold red", "unsure": "bold"}
_MARKS = {"better": "▲", "worse": "▼", "unsure": "?"}


_LABEL = 18
"""Columns that a metric's name keeps whatever the numbers take: without its name a number says nothing."""
_SPARE = (("base", "tuned"), ("interval",))
"""What a narrow terminal goes without, in this order; the page has it."""


class _Narrow:
    """A renderable made for its width: at most 100 columns, because longer lines are hard to read."""

    def __init__(self, make: Callable[[int], Group]) -> None:
        self.make = make

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDTH)
        yield from console.render(self.make(width), options.update(width=width))


def console_summary(report: Mapping[str, Any], page: Path | None = None) -> _Narrow:
    """The summary of a run as a rich renderable; every text is literal, never rich markup.

    `page` is the path of `report.html`, printed last when given.
    """
    parsed = parse(dict(report))
    row = headline_row(parsed)
    style = "bold red" if _has_failed(parsed) else _STYLES[row.tone] if row else "bold"

    def make(width: int) -> Group:
        parts: list[Any] = [Text(verdict_line(parsed), style=style)]
        for name, rows in metric_rows(parsed).items():
            parts.append(Padding(_table(name, rows, confidence(parsed), width), (1, 0, 0, 0)))
            parts.append(Text(_NOTE, style="dim"))
        if page is not None:
            told = Text.assemble("Report  ", (visible(str(page)), "bold"), overflow="fold")
            parts.append(Padding(told, (1, 0, 0, 0)))
        return Group(*parts)

    return _Narrow(make)


def verdict_line(report: Report) -> str:
    """The result of a run in one line."""
    failed = report.run.failed
    if _has_failed(report):
        where = f" at {failed.stage}" if failed and failed.stage else ""
        why = f": {failed.message}" if failed and failed.message else ""
        return one_line(f"Failed{where} after {duration(report.run.seconds)}{why}")
    if report.verdict and report.verdict.sentence:
        return one_line(report.verdict.sentence)
    return f"Not measured: {not_measured(report)}"


def _has_failed(report: Report) -> bool:
    return report.run.failed is not None or report.run.status == "failed"


def _table(name: str, rows: list[MetricRow], level: str, width: int) -> Table:
    numbers, gap = _columns(rows, level, width)
    table = Table(title=Text(one_line(name)), title_justify="left", box=None, header_style="dim")
    table.pad_edge, table.padding = False, (0, gap, 0, 0)
    table.add_column("metric", overflow="fold", min_width=_LABEL)
    for heading, _ in numbers.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    task = ""
    for index, row in enumerate(rows):
        if row.task != task:  # a line of its own: beside each metric the names would not fit 80 columns
            task = row.task
            table.add_row(Text(one_line(task), style="dim"))
        label = Padding(Text(one_line(row.label), overflow="fold"), (0, 0, 0, 2))
        table.add_row(label, *(Text(one_line(texts[index])) for _, texts in numbers.values()), _verdict(row))
    return table


Column = tuple[str, list[str]]


def _columns(rows: list[MetricRow], level: str, width: int) -> tuple[dict[str, Column], int]:
    """The columns of numbers, each (heading, a text per row), and the gap between them: as much as the width allows."""
    columns: dict[str, Column] = {
        "base": ("base", [row.base for row in rows]),
        "tuned": ("tuned", [row.tuned for row in rows]),
        "change": ("change", [row.difference for row in rows]),
        "interval": (f"{level} interval", [row.interval for row in rows]),
    }
    verdict = max((_verdict(row).cell_len for row in rows), default=0)
    for gone in ((), *_SPARE):
        columns = {name: column for name, column in columns.items() if name not in gone}
        taken = sum(max(map(cell_len, [heading, *texts])) for heading, texts in columns.values())
        for gap in (2, 1):
            if _LABEL + taken + verdict + gap * (len(columns) + 1) <= width:
                return columns, gap
    return columns, 1


def _verdict(row: MetricRow) -> Text:
    return Text(f"{_MARKS[row.tone]} {row.word.lower()}", style=_STYLES[row.tone])

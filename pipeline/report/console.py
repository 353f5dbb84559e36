"""What the terminal shows at the end of a run: verdict, metrics with intervals, path of the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


class _Narrow:
    """Caps a renderable's width: lines longer than 100 characters are hard to read."""

    def __init__(self, content: Group) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.content, options.update(width=min(options.max_width, _WIDTH)))


def console_summary(report: Mapping[str, Any], page: Path | None = None) -> _Narrow:
    """The summary of a run as a rich renderable; every text is literal, never rich markup.

    `page` is the path of `report.html`, printed last when given.
    """
    parsed = parse(dict(report))
    row = headline_row(parsed)
    style = "bold red" if _has_failed(parsed) else _STYLES[row.tone] if row else "bold"
    parts: list[Any] = [Text(verdict_line(parsed), style=style)]
    for name, rows in metric_rows(parsed).items():
        parts.append(Padding(_table(name, rows, confidence(parsed)), (1, 0, 0, 0)))
        parts.append(Text(_NOTE, style="dim"))
    if page is not None:
        parts.append(Padding(Text.assemble("Report  ", (visible(str(page)), "bold"), overflow="fold"), (1, 0, 0, 0)))
    return _Narrow(Group(*parts))


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


def _table(name: str, rows: list[MetricRow], level: str) -> Table:
    table = Table(title=Text(one_line(name)), title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("metric", overflow="fold")
    for heading in ("base", "tuned", "change", f"{level} interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    task = ""
    for row in rows:
        if row.task != task:  # a line of its own: beside each metric the names would not fit 80 columns
            task = row.task
            table.add_row(Text(one_line(task), style="dim"))
        verdict = Text(f"{_MARKS[row.tone]} {row.word.lower()}", style=_STYLES[row.tone])
        texts = (f"  {row.label}", row.base, row.tuned, row.difference, row.interval)
        table.add_row(*(Text(text) for text in map(_keep_indent, texts)), verdict)
    return table


def _keep_indent(text: str) -> str:
    inner = text.lstrip(" ")
    return " " * (len(text) - len(inner)) + one_line(inner)

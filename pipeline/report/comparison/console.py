"""A comparison on the terminal: the sentence, then the best runs."""

import io
import shutil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.report.comparison.build import Comparison
from pipeline.report.comparison.words import headline, notes, rows

_SHOWN = 20


def table(found: Comparison) -> str:
    """The comparison as plain text for the width of the terminal."""
    out = io.StringIO()
    console = Console(file=out, width=min(shutil.get_terminal_size((100, 24)).columns, 140), highlight=False)
    console.print(Text(headline(found)[1]))
    console.print()
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("", justify="right", no_wrap=True)
    shown.add_column("run", overflow="fold", min_width=16)
    for heading in (found.metric, "against the best", "time"):
        shown.add_column(heading, justify="right", overflow="fold")
    shown.add_column("verdict", overflow="fold")
    shown.add_column("settings", overflow="fold")
    for row in rows(found)[:_SHOWN]:
        cells = (row.rank, row.run, row.score, row.difference, row.seconds, row.verdict, row.settings)
        shown.add_row(*(Text(cell) for cell in cells))
    console.print(shown)
    if len(found.runs) > _SHOWN:
        console.print(Text(f"… and {len(found.runs) - _SHOWN} more in the page"))
    for note in notes(found)[:5]:
        console.print(Text(f"- {note}"))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())

"""What the commands show: progress bars and the funnel."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track as rich_track
from rich.table import Table

Item = TypeVar("Item")


def terminal_track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """A progress bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return iter(items)
    return iter(rich_track(items, title, total=total, console=console, transient=True))


def show_result(funnel: list[dict[str, Any]], out: Path) -> None:
    """The funnel as a table, and where everything lies."""
    table = Table(title=None)
    table.add_column("step")
    for name in ("rows left", "dropped", "speaks against", "changed"):
        table.add_column(name, justify="right")
    for entry in funnel:
        numbers = (entry.get(name) for name in ("rows", "dropped", "failing", "changed"))
        table.add_row(entry["step"], *(f"{number:,}" if number is not None else "" for number in numbers))
    console = Console()
    console.print(table)
    for entry in funnel:
        if "alarm" in entry:
            console.print(f"! {entry['alarm']}", markup=False)
    console.print(f"{out}/rows.jsonl, ledger.parquet, funnel.json, what_if.json", markup=False, highlight=False)


def show_self_test(found: Mapping[str, Any]) -> None:
    """Recall and precision of each step on what was planted, with their intervals."""
    table = Table(title="self-test: planted into a copy of the rows")
    for name in ("step", "planted", "found", "recall", "look-alikes", "wrongly found"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step, rates in found.items():
        if not isinstance(rates, dict):
            continue
        if "not_tested" in rates:
            table.add_row(step, rates["not_tested"])
            continue
        recall = rates["recall"]
        shown = f"{recall['value']:.1%} ({recall['low']:.1%}–{recall['high']:.1%})" if recall else ""
        counts = (rates[name] for name in ("look_alikes", "wrongly_found"))
        table.add_row(step, str(rates["planted"]), str(rates["found"]), shown, *map(str, counts))
    console = Console()
    console.print(found.get("not_tested", table))

"""What was measured, as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show(found: Mapping[str, Any], place: Path) -> None:
    """Each metric of each model; with two models also difference, interval and verdict."""
    console, compared = Console(), found["comparisons"].get("model_vs_base")
    columns = ("base", "model", "change", "interval", "verdict") if compared else tuple(found["models"])
    table = Table(title=None)
    for number, name in enumerate(("task", "metric", *columns)):
        table.add_column(name, justify="right" if number > 1 and name != "verdict" else "left")
    for task, metric, cells in _rows(found, compared):
        table.add_row(task, metric, *cells)
    console.print(table)
    for dataset, policy in found["policies"].items():
        for name, told in policy.items():
            console.print(f"{dataset} {name}: {told}", markup=False, highlight=False)
    console.print(str(place), markup=False, highlight=False)


def _rows(found: Mapping[str, Any], compared: Mapping[str, Any] | None) -> list[tuple[str, str, list[str]]]:
    if compared:
        return [
            (task, metric, [*(f"{entry[name]:.4g}" for name in ("base", "tuned")), *_change(entry)])
            for task, entries in compared.items()
            for metric, entry in entries.items()
        ]
    models = list(found["models"].values())
    keys = dict.fromkeys((task, metric) for values in models for task, each in values.items() for metric in each)
    return [
        (task, metric, [f"{values.get(task, {}).get(metric, float('nan')):.4g}" for values in models])
        for task, metric in keys
    ]


def _change(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['difference']:+.4g}", f"{entry['low']:+.4g} to {entry['high']:+.4g}", entry["verdict"]]

"""The results table of the terminal: names and verdicts stay, whatever the numbers and the width."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pipeline.report.console import console_summary
from pipeline.report.formatting import fixed, signed

SAMPLE = json.loads((Path(__file__).parent / "sample_report.json").read_text("utf-8"))
LABELS = ("bits per byte", "byte perplexity", "word perplexity", "token perplexity", "ROUGE-Lsum", "chrF")


def shown(report: dict[str, Any], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(console_summary(report, Path("report.html")))
    return out.getvalue().splitlines()


def wide(scale: float) -> dict[str, Any]:
    """The sample with numbers `scale` times as large."""
    report = copy.deepcopy(SAMPLE)
    for tasks in report["evaluation"]["comparisons"].values():
        for cells in tasks.values():
            for cell in cells.values():
                for name in ("base", "tuned", "difference", "low", "high"):
                    cell[name] *= scale
    return report


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9, 1e15])
def test_80_columns_hold_names_numbers_and_verdicts(scale: float) -> None:
    lines = shown(wide(scale), 80)
    for label in LABELS:
        row = next(line for line in lines if line.startswith(f"  {label} "))
        assert row.rstrip().endswith(("better", "worse", "cannot tell"))
    heading = next(line for line in lines if line.startswith("metric"))
    assert heading.split() == ["metric", "base", "tuned", "change", "95", "%", "interval", "verdict"]
    assert max(cell_len(line.rstrip()) for line in lines) <= 80


@given(st.integers(40, 120), st.floats(1e-12, 1e30))
@settings(max_examples=30, deadline=None)
def test_no_width_hides_a_name(width: int, scale: float) -> None:
    lines = shown(wide(scale), width)
    for label in LABELS:
        assert any(line.startswith(f"  {label} ") for line in lines), "\n".join(lines)


def test_a_narrow_terminal_goes_without_the_two_scores_first() -> None:
    heading = next(line for line in shown(SAMPLE, 66) if line.startswith("metric"))
    assert heading.split() == ["metric", "change", "95", "%", "interval", "verdict"]
    heading = next(line for line in shown(SAMPLE, 45) if line.startswith("metric"))
    assert heading.split() == ["metric", "change", "verdict"]


def test_numbers_of_a_million_and_more_are_short() -> None:
    assert fixed(2_081_223_111.0, 0) == "2.08e9" and signed(-2_081_223_111.0, 0) == "−2.08e9"
    assert fixed(999_999.0, 0) == "999,999" and signed(1e6, 2) == "+1.00e6"

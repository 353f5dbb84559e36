"""Every `python -m eval` that the documents show passes the gate."""

import re
import shlex
from pathlib import Path

import pytest

from eval.commands.cli import config_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^python -m eval (.+)$", re.MULTILINE)
COMMANDS = sorted({line for page in PAGES for line in LINE.findall(page.read_text(encoding="utf-8"))})


def test_there_are_some() -> None:
    assert len(COMMANDS) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_it_means_something(command: str) -> None:
    assert config_of(shlex.split(command, comments=True)).model

"""The house rules: style, import walls, sizes of files and functions."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [file for package in ("pipeline", "data_prep", "eval", "conf") for file in (ROOT / package).rglob("*.py")]
BIN = Path(sys.executable).parent


def succeeds(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("check", [["check", "."], ["format", "--check", "."]], ids=["lint", "format"])
def test_ruff(check: list[str]) -> None:
    succeeds(str(BIN / "ruff"), *check)


def test_the_import_walls_stand() -> None:
    succeeds(str(BIN / "lint-imports"), "--no-cache")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_are_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    assert file.stem not in {"utils", "util", "helpers", "helper", "misc", "common"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is longer than 40 lines"


def test_no_path_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines() or [str(file.relative_to(ROOT)) for file in SOURCES]
    private = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w+")
    for name in names:
        file = ROOT / name
        if file.suffix in {".py", ".yaml", ".toml", ".md", ".txt"} and file.exists():
            found = private.search(file.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found and found[0]}"

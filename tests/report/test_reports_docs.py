"""Every command of docs/reports.md does what the page says."""

from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks, commands, run_module

DOCUMENTED = [command for block in blocks(ROOT / "docs" / "reports.md") for command in commands(block)]
COMMANDS = [command for command in DOCUMENTED if command[2] != "pipeline"]
"""What is done with a finished run; whole runs are in tests/test_docs.py."""
EXPECTED = {
    "pipeline.report": ".html",
    "pipeline.verify": "checks passed",
    "pipeline.export": "files left out",
    "pipeline.reproduce": "reproduced: all",
}


@pytest.mark.end_to_end
def test_the_documented_commands_run_in_their_order(copied: Path, tmp_path: Path) -> None:
    assert {command[2] for command in COMMANDS} == set(EXPECTED) and len(COMMANDS) == 8
    (tmp_path / "outputs").symlink_to(copied)
    second = copied / "runs" / "smoke-2"
    second.mkdir()
    for file in (copied / "runs" / "latest").resolve().iterdir():
        if file.is_file():
            (second / file.name).write_bytes(file.read_bytes())
    for command in COMMANDS:
        done = run_module(tmp_path, *command[2:])
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        expected = "environment" if "--check" in command else EXPECTED[command[2]]
        assert expected in done.stdout, (command, done.stdout)
    assert (tmp_path / "comparison" / "comparison.html").exists() and (tmp_path / "bundle.zip").exists()

"""`make bench` works, and the bare script really trains what Provetune trains."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.end_to_end
def test_both_sides_of_the_comparison_train_alike(copied: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--experiment", "smoke", "--outputs", str(copied)]
    command += ["--pairs", "1", "--steps", "6", "--json", str(tmp_path / "measured.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "measured.json").read_text(encoding="utf-8"))
    for name in ("lora", "qlora"):
        assert measured[name]["steps"] == 6 and measured[name]["loss_difference"] <= 1e-6
        assert set(measured[name]["against"]) == {"bare TRL", "bare TRL, KEEP_MEMORY"}
        assert measured[name]["against"]["bare TRL"]["peak"] > 0.5
    assert set(measured["startup"]) == {"--help", "mode=plan", "cached run"}

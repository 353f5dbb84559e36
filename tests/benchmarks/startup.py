"""How long a user waits before anything happens: help, plan, and a run in which everything is cached."""

import statistics
import subprocess
import sys
import time

LIMITS = {"--help": 1.0, "mode=plan": 2.0, "cached run": 5.0}
"""Seconds that each may take."""


def seconds(*arguments: str) -> float:
    """Wall-clock seconds of `python -m pipeline …`."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def measure(run: list[str], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each; `run` are the overrides of a run that has finished before."""
    commands = {"--help": ["--help"], "mode=plan": [*run, "mode=plan"], "cached run": run}
    return {name: statistics.median(seconds(*command) for _ in range(repeats)) for name, command in commands.items()}


def rows(result: dict[str, float]) -> list[list[str]]:
    """The table: what, median seconds, limit."""
    return [[name, f"{value:.2f}", f"{LIMITS[name]:.0f}"] for name, value in result.items()]

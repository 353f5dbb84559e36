"""Two CPU ranks against one: tokens per second of the same training, each rank with one thread on a core of its own.

    python -m tests.benchmarks.ranks [--experiment lora_llama] [--outputs FOLDER] [--pairs 3] [--steps 12]

A finished `sft.train` artifact is trained again in fresh processes, one rank and two in turn. On a machine that does
other work too, two ranks lose twice; so beside the ratio of the wall clocks stands that of the processor time: what
one rank's core did against what the busier of two did, which leaves out only what they wait for each other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.config import LaunchConfig
from pipeline.launch import rank_command, worker_environment
from tests.benchmarks.sft_overhead import newest_stage, plain_stage

LEAST = 1.6
"""The promise: how many times the tokens per second two ranks make."""


@dataclass(frozen=True)
class Speed:
    """One training."""

    tokens_per_second: float
    processor_seconds: float
    """Of the busiest rank, from its first step's log to its end."""
    own_share: float
    """Of a step, what its slowest rank works before it waits for the others."""


def train(stage: Mapping[str, Any], ranks: int) -> Speed:
    """The stage on so many ranks, in fresh processes. Raises SystemExit with the log of one that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stage.yaml").write_text(yaml.safe_dump(dict(stage)), encoding="utf-8")
        (folder / "logs").mkdir()
        alone = [sys.executable, "-m", "pipeline.worker", name]
        command = alone if ranks == 1 else rank_command(LaunchConfig(kind="cpu_ranks", processes=ranks), folder)
        environment = worker_environment(ranks) | {"OMP_NUM_THREADS": "1"}
        with (folder / "logs" / "launcher.log").open("wb") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            used = _pinned_until_the_end(child, folder)
        if child.returncode:
            raise SystemExit((folder / "logs" / "rank0.log").read_text(encoding="utf-8"))
        events = [json.loads(line) for line in (folder / "logs" / "events.jsonl").read_text().splitlines()]
        metrics = next(one["metrics"] for one in events if one["event"] == "done" and one["rank"] == 0)
        steps = metrics["train_seconds"] / stage["config"]["max_steps"]
        own = max(json.loads(file.read_text())["own"] or 0.0 for file in folder.glob("logs/heart-*.json"))
    return Speed(metrics["tokens_per_second"], used, own / steps)


def _pinned_until_the_end(child: "subprocess.Popen[bytes]", folder: Path) -> float:
    """Keep each rank on a core of its own; processor seconds of the busiest one, steps alone."""
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    while child.poll() is None:
        for rank, process in _ranks(child.pid).items():
            try:
                process.cpu_affinity([rank % (os.cpu_count() or 1)])
                used = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
            if any(file.stat().st_size for file in folder.glob("checkpoints/steps.jsonl")):
                first.setdefault(rank, used)
                last[rank] = used
        time.sleep(2.0 if last else 0.1)  # a look at all processes costs time on the cores that are measured
    return max((last[rank] - first[rank] for rank in last), default=float("nan"))


def _ranks(root: int) -> dict[int, psutil.Process]:
    """The processes that train."""
    found: dict[int, psutil.Process] = {}
    try:
        process = psutil.Process(root)
        for one in [process, *process.children(recursive=True)]:
            if "pipeline.worker" in (line := one.cmdline()) and "torch.distributed.run" not in line:
                found[int(one.environ().get("RANK", "0"))] = one
    except psutil.Error:
        pass
    return found


def compare(outputs: Path, pairs: int, steps: int | None) -> list[tuple[Speed, Speed]]:
    """One rank and two, in turn."""
    stage = plain_stage(newest_stage(outputs), steps)
    return [(train(stage, 1), train(stage, 2)) for _ in range(pairs)]


def main() -> int:
    """Print each pair and the medians; 1 when two ranks are not as fast as promised."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ranks", description=__doc__)
    parser.add_argument("--experiment", default="lora_llama", help="what is trained; it is run first where it was not")
    parser.add_argument("--outputs", default="outputs", help="folder of artifacts")
    parser.add_argument("--pairs", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--steps", type=int, default=12, help="steps of each")
    asked = parser.parse_args()
    run = [f"+experiment={asked.experiment}", f"outputs={asked.outputs}", "run=[filter,sft]"]
    run += [f"stages.sft.max_steps={asked.steps}"]
    subprocess.run([sys.executable, "-m", "pipeline", *run], check=True, stdout=subprocess.DEVNULL)
    found = compare(Path(asked.outputs), asked.pairs, asked.steps)
    for one, two in found:
        print(
            f"{one.tokens_per_second:.1f} → {two.tokens_per_second:.1f} tokens/s; "
            f"processor time {one.processor_seconds:.1f}"
            f" → {two.processor_seconds:.1f} s; own work {one.own_share:.0%} → {two.own_share:.0%} of a step"
        )
    wall = statistics.median(two.tokens_per_second / one.tokens_per_second for one, two in found)
    work = statistics.median(one.processor_seconds / two.processor_seconds for one, two in found)
    load = os.getloadavg()[0]
    print(f"two ranks: {wall:.2f} times the tokens per second, {work:.2f} by processor time (load {load:.1f})")
    return 0 if wall >= LEAST else 1


if __name__ == "__main__":
    raise SystemExit(main())

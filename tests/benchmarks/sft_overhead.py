"""Does Provetune train as fast as a bare TRL script, in as much memory, with the same rows, and to the same losses?

A finished `sft.train` artifact is trained again, each time in a fresh process, interleaved with the bare script: as it
comes, and with the memory settings of `pipeline.launch.KEEP_MEMORY`, so that their part of the difference shows.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.launch import FORGOTTEN, KEEP_MEMORY, worker_environment

BARE, BARE_KEEPING = "bare TRL", "bare TRL, KEEP_MEMORY"
TOLERANCE = 1e-6
"""Largest difference between the losses of a step."""


@dataclass(frozen=True)
class Training:
    """One training in a process of its own."""

    train_seconds: float
    process_seconds: float
    tokens_per_second: float
    peak_bytes: int
    losses: list[float]
    checkpoint_seconds: float = 0.0
    """How long our training stood still for checkpoints."""


def newest_stage(outputs: Path) -> Path:
    """The newest finished `sft.train` artifact of an outputs folder."""
    finished = sorted(outputs.glob("artifacts/sft.train/*/done.json"), key=lambda file: file.stat().st_mtime)
    if not finished:
        raise SystemExit(f"{outputs}: no finished sft.train artifact; run python -m pipeline +experiment=NAME first")
    return finished[-1].parent


def ours(stage: dict[str, Any]) -> Training:
    """The worker on a fresh artifact folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stage.yaml").write_text(yaml.safe_dump(stage), encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "pipeline.worker", name]
        done = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit((folder / "logs" / "rank0.log").read_text(encoding="utf-8"))
        events = [json.loads(line) for line in (folder / "logs" / "events.jsonl").read_text().splitlines()]
        metrics, peak = events[-1]["metrics"], events[-1]["peak_memory"]
        losses = [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]
    return Training(
        metrics["train_seconds"], seconds, metrics["tokens_per_second"], peak, losses, metrics["checkpoint_seconds"]
    )


def bare(stage: dict[str, Any], keep_memory: bool) -> Training:
    """The bare script with the settings of the stage."""
    config, inputs = stage["config"], stage["inputs"]
    asked = {
        "model": inputs["weights"],
        "rows": f"{inputs['rows']}/train",
        "steps": config["max_steps"],
        "batch-size": config["batch_size"],
        "learning-rate": config["learning_rate"],
        "schedule": config["schedule"],
        "warmup-steps": config["warmup_steps"],
        "save-every": config["checkpoint_every"] or 50,
        "rank": config["adapter"]["r"],
        "alpha": config["adapter"]["alpha"],
        "dtype": config["dtype"],
        "seed": config["seed"],
    }
    if config["adapter"]["kind"] == "qlora":
        asked["quantization"] = config["adapter"]["quantization"]
    command = [sys.executable, "-m", "tests.benchmarks.bare_trl"]
    command += [part for name, value in asked.items() for part in (f"--{name}", str(value))]
    outer = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    environment = {"TOKENIZERS_PARALLELISM": "false"} | (KEEP_MEMORY if keep_memory else {}) | outer
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    return Training(told["train_seconds"], seconds, told["tokens_per_second"], told["peak_bytes"], told["losses"])


def plain_stage(folder: Path, steps: int | None, quantised: bool = False) -> dict[str, Any]:
    """The stage of an artifact, perhaps shorter, or as QLoRA; without validation and preflight, which TRL has not."""
    stage = yaml.safe_load((folder / "stage.yaml").read_text(encoding="utf-8"))
    config = stage["config"]
    if config["adapter"]["kind"] != "lora" or config["max_steps"] is None:
        raise SystemExit(f"{folder}: the bare script trains LoRA for max_steps steps; choose another artifact")
    stage["config"] = {**config, "validate_every": None, "micro_batch_size": None, "activation_checkpointing": False}
    stage["config"]["preflight"] = False
    stage["config"]["max_steps"] = steps or config["max_steps"]
    if quantised:
        more = {"kind": "qlora", "quantization": "nf4", "double_quantization": True}
        stage["config"]["adapter"] = {**config["adapter"], **more}
    return stage


def compare(outputs: Path, pairs: int = 3, steps: int | None = None, quantised: bool = False) -> dict[str, Any]:
    """Median ratios of bare to ours (above 1: ours is faster, or smaller), differences of losses, every measurement."""
    stage = plain_stage(newest_stage(outputs), steps, quantised)
    measured: dict[str, list[Training]] = {"ours": [], BARE: [], BARE_KEEPING: []}
    for _pair in range(pairs):
        measured["ours"].append(ours(stage))
        measured[BARE].append(bare(stage, keep_memory=False))
        measured[BARE_KEEPING].append(bare(stage, keep_memory=True))
    reference = measured["ours"][0].losses
    trainings = [training for found in measured.values() for training in found]
    difference = max(_distance(reference, training.losses) for training in trainings)
    return {
        "pairs": pairs,
        "steps": len(reference),
        "loss_difference": difference,
        "checkpoint_share": max(each.checkpoint_seconds / each.train_seconds for each in measured["ours"]),
        "against": {name: _ratios(measured["ours"], measured[name]) for name in (BARE, BARE_KEEPING)},
        "measured": {name: [vars(training) for training in found] for name, found in measured.items()},
    }


def _distance(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _ratios(mine: list[Training], other: list[Training]) -> dict[str, float]:
    pairs = list(zip(mine, other, strict=True))
    return {
        "train": statistics.median(b.train_seconds / a.train_seconds for a, b in pairs),
        "process": statistics.median(b.process_seconds / a.process_seconds for a, b in pairs),
        "peak": statistics.median(b.peak_bytes / a.peak_bytes for a, b in pairs),
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """The table: name, tokens per second, training and whole-process seconds, peak memory (medians), ratios to ours."""
    table = []
    for name, found in result["measured"].items():
        medians = [
            statistics.median(training[key] for training in found)
            for key in ("tokens_per_second", "train_seconds", "process_seconds")
        ]
        peak = statistics.median(training["peak_bytes"] for training in found) / 1e9
        against = result["against"].get(name)
        ratios = [f"{against[figure]:.3f}" if against else "" for figure in ("train", "process", "peak")]
        table.append([name, *(f"{value:.1f}" for value in medians), f"{peak:.2f}", *ratios])
    return table

"""What a plan will cost: memory and time per node, before anything runs. Rough, and said so; the report compares.

Memory is the model of `pipeline.training.memory`, per rank. Time counts multiply-adds (Kaplan et al. 2020, arXiv
2001.08361: 2 per weight and token forward, 4 backward) at the speed of this machine's matrix product, or at the tokens
per second that the same kind of node reached here before.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.artifacts import read_json
from pipeline.console import duration, table
from pipeline.model_facts import ModelFacts, facts_of, facts_of_scratch
from pipeline.plan import Plan, Step, artifact_root
from pipeline.stages.dpo.config import DpoTrainConfig
from pipeline.stages.kto.config import KtoTrainConfig
from pipeline.stages.orpo.config import OrpoTrainConfig
from pipeline.stages.pretrain.config import PretrainTrainConfig
from pipeline.stages.sft.config import SftTrainConfig
from pipeline.stages.simpo.config import SimpoTrainConfig
from pipeline.training.activation_memory import Batch, activation_bytes
from pipeline.training.config import TrainConfig, leaves_model, sequences_of
from pipeline.training.memory import training_memory
from pipeline.training.model_sizes import BYTES

PROCESS_BYTES = 900e6
"""Python with torch, transformers and TRL imported."""
TRAINING_EFFICIENCY, SCORING_EFFICIENCY = 0.45, 0.7
"""Share of the bare matrix product's speed that a small model reaches (measured with SmolLM2-135M on two cores)."""
NEW_TOKEN = 3
"""A generated token costs as much as so many scored ones: decoding is bound by memory."""
USUAL_ROW = 256
"""Tokens of a row while nothing better is known."""
TRAINING: dict[str, type[TrainConfig]] = {
    "pretrain.train": PretrainTrainConfig,
    "sft.train": SftTrainConfig,
    "dpo.train": DpoTrainConfig,
    "kto.train": KtoTrainConfig,
    "orpo.train": OrpoTrainConfig,
    "simpo.train": SimpoTrainConfig,
}
"""The kinds of nodes that train on ranks, and what they are given."""
REFERENCES = ("dpo.reference", "kto.reference")
"""The kinds that score all prepared rows once."""
REFERENCE_ROWS = 8
"""Rows that a reference scores at once."""


@dataclass(frozen=True)
class Cost:
    """Estimated peak memory in bytes (per process) and seconds; None where nothing is known."""

    memory: float | None
    seconds: float | None


def plan_table(plan: Plan) -> Group:
    """What would run: nodes, fingerprints, cached or not, estimated memory and time."""
    costs = estimate(plan)
    rows = [
        [step.node.name, step.node.fingerprint, step.state, _gigabytes(cost.memory), _seconds(cost.seconds)]
        for step, cost in zip(plan.steps, costs, strict=True)
    ]
    todo = [cost.seconds for step, cost in zip(plan.steps, costs, strict=True) if step.state != "cached"]
    total = sum(seconds for seconds in todo if seconds is not None)
    shown: Table = table("plan", ["stage", "fingerprint", "state", "memory", "time"], rows, frozenset({3, 4}))
    unknown = f", and {todo.count(None)} unknown" if None in todo else ""
    last = Text(f"{len(todo)} of {len(rows)} to run, about {duration(total)}{unknown} (estimates)")
    return Group(shown, last)


def estimate(plan: Plan) -> list[Cost]:
    """The cost of each node, in the plan's order; a cached node costs nothing."""
    facts = _facts(plan)
    speed: float | None = None
    costs = []
    for step in plan.steps:
        if step.state == "cached":
            costs.append(Cost(None, 0.0))
            continue
        if speed is None and step.node.kind in (*TRAINING, *REFERENCES, "evaluate.predict"):
            speed = machine_flops()
        costs.append(_cost(step, plan, facts, speed or 1.0))
    return costs


def _cost(step: Step, plan: Plan, facts: ModelFacts | None, flops: float) -> Cost:
    """One node; those without a model take seconds."""
    kind, config = step.node.kind, step.node.config
    if kind in TRAINING and facts is not None:
        return _training(step, plan, facts, flops)
    if kind in REFERENCES and facts is not None:
        return _reference(step, plan, facts, flops)
    if kind == "evaluate.predict" and facts is not None:
        return _prediction(plan, facts, config, flops)
    if kind == "model" and facts is not None:
        return Cost(PROCESS_BYTES + 2 * 4 * facts.parameters, 5 + facts.parameters * 1.1e-7)
    if kind == "model" or (kind in (*TRAINING, *REFERENCES, "evaluate.predict") and facts is None):
        return Cost(None, None)
    return Cost(PROCESS_BYTES if kind.endswith(".prepare") else 300e6, 3.0)


def _training(step: Step, plan: Plan, facts: ModelFacts, flops: float) -> Cost:
    """Steps × global batch × tokens of a row, at 6 (full) or 4 (adapter: no weight gradients) operations."""
    config = step.node.config
    recipe = TRAINING[step.node.kind].model_validate(config)
    sides = recipe.sequences_per_row
    row = (_row_tokens(step, plan) or USUAL_ROW * sides) / sides
    steps = config["max_steps"] or 100
    batch = sequences_of(recipe, row)
    launch = plan.config.launch
    share = max(1, batch // launch.batches)
    micro = min(recipe.micro_batch_size or share, share)
    tokens, on_gpu = row / launch.context_parallel, _on_gpu(launch.kind)
    at_once = Batch(micro * sides, tokens, accumulated=micro < share, on_gpu=on_gpu, tensor=launch.tensor_parallel)
    full = leaves_model(recipe.adapter)
    memory = PROCESS_BYTES + training_memory(recipe, facts, at_once, launch.kind, launch.shards).total
    operations = (6 if full else 4) * facts.parameters * steps * batch * row * sides
    return Cost(
        memory,
        _seconds_by_speed(operations / (6 if full else 4) / facts.parameters, step, plan)
        or operations / (flops * TRAINING_EFFICIENCY),
    )


def _reference(step: Step, plan: Plan, facts: ModelFacts, flops: float) -> Cost:
    """All prepared rows forward once; of KTO's, each answer under its neighbour's prompt as well."""
    done = plan.artifacts[step.node.inputs["rows"].node.name].done_file
    known = read_json(done)["metrics"] if done.exists() else {}
    sides = 2 if step.node.kind == "dpo.reference" else 1
    row = (_row_tokens(step, plan) or USUAL_ROW * sides) / sides
    tokens = known.get("tokens") or 1000 * USUAL_ROW * sides
    width = BYTES[step.node.config["dtype"]]
    memory = PROCESS_BYTES + facts.parameters * width + 2 * 4 * REFERENCE_ROWS * sides * row * facts.vocab_size
    recipe = TRAINING[step.node.kind.replace("reference", "train")].model_validate(step.node.config)
    memory += activation_bytes(recipe, facts, Batch(REFERENCE_ROWS * sides, row)) / facts.layers
    passes = 2 if step.node.kind == "kto.reference" else 1
    return Cost(memory, passes * 2 * facts.parameters * tokens / (flops * SCORING_EFFICIENCY) + 5)


def _prediction(plan: Plan, facts: ModelFacts, config: Mapping[str, Any], flops: float) -> Cost:
    """Scoring, prompts of the generation, and new tokens."""
    scored = generated = 0
    if config["perplexity"]:
        scored += (config["perplexity"]["max_rows"] or 128) * USUAL_ROW
    if config["task"]:
        rows, task = config["task"]["max_rows"] or 1000, config["task"]
        scored += rows * USUAL_ROW
        if task["kind"] == "reasoning":
            thinking = (task["budget"] or {"most": 0})["most"]
            generated += rows * task["samples"] * (thinking + task["max_new_tokens"])
    if config["generation"] and config["generation"]["engine"] != "server":
        rows = config["generation"]["max_rows"] or 128
        scored += rows * USUAL_ROW
        generated += rows * config["generation"]["max_new_tokens"]
    width = BYTES[config["dtype"]]
    memory = PROCESS_BYTES + facts.parameters * width + 8 * USUAL_ROW * facts.hidden_size * 34 * width / 2
    memory += 2 * 8 * USUAL_ROW * facts.vocab_size * 4
    return Cost(memory, 2 * facts.parameters * (scored + NEW_TOKEN * generated) / (flops * SCORING_EFFICIENCY) + 5)


def _on_gpu(launch: str) -> bool:
    """Whether a training would run on one; asked without torch."""
    return launch not in ("single", "cpu_ranks") or Path("/proc/driver/nvidia/version").exists()


@cache
def machine_flops() -> float:
    """Floating-point operations per second of a float32 matrix product here: the better of a few tries of a moment."""
    import numpy as np

    side = 768
    matrix = np.ones((side, side), dtype=np.float32)
    np.matmul(matrix, matrix)
    best = 0.0
    for _try in range(3):
        started = time.perf_counter()
        np.matmul(matrix, matrix)
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def _facts(plan: Plan) -> ModelFacts | None:
    """Sizes of the run's model, wherever they can be read already."""
    if plan.config.model.scratch is not None:
        return facts_of_scratch(plan.config.model.scratch)
    artifact = plan.artifacts.get("model")
    if artifact is not None and (artifact.folder / "model").exists():
        return facts_of(artifact.folder / "model")
    return facts_of(Path(plan.model.location))


def _row_tokens(step: Step, plan: Plan) -> float | None:
    """Mean tokens of a training row, when `prepare` has counted them."""
    prepare = step.node.inputs["rows"].node
    done = plan.artifacts[prepare.name].done_file
    if not done.exists():
        return None
    metrics = read_json(done)["metrics"]
    rows, tokens = metrics.get("rows"), metrics.get("tokens")
    return tokens / rows if rows and tokens else None


def _seconds_by_speed(tokens: float, step: Step, plan: Plan) -> float | None:
    """Time by the newest node of this kind that trained the same model here."""
    finished = sorted(
        (artifact_root(plan.config) / step.node.kind).glob("*/done.json"), key=lambda path: path.stat().st_mtime
    )
    for file in reversed(finished):
        inputs = file.with_name("inputs.json")
        if inputs.exists() and read_json(inputs).get("weights") == step.node.inputs["weights"].node.fingerprint:
            speed = read_json(file)["metrics"].get("tokens_per_second")
            return tokens / speed if speed else None
    return None


def _gigabytes(memory: float | None) -> str:
    return "–" if memory is None else f"{memory / 1e9:.1f} GB"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else "" if seconds == 0 else f"≈ {duration(seconds)}"

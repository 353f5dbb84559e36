"""Runs a plan: takes each node's lock, uses what is cached, continues what was killed, seals what is finished."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from eval.energy import EnergyMeter
from pipeline.artifacts import Artifact, read_json, write_json, write_text
from pipeline.console import Display
from pipeline.contract import Node
from pipeline.errors import ProvetuneError, StageFailed
from pipeline.launch import Workers
from pipeline.node_runner import NodeWorkers
from pipeline.nodes import Nodes
from pipeline.plan import Plan, Step
from pipeline.provenance import package_versions

Outcome = Literal["ran", "cached", "resumed", "failed"]


@dataclass(frozen=True)
class NodeResult:
    """How one node of the run ended."""

    node: Node
    artifact: Artifact
    outcome: Outcome
    done: Mapping[str, Any]
    """Its `done.json`; empty when it failed."""


def execute(plan: Plan, display: Display, results: list[NodeResult], nodes: Nodes | None = None) -> None:
    """Run every node in order, appending to `results`; on an error the failed node is the last of them.

    `nodes`: the other machines, which are told of every step.
    """
    launch = plan.config.launch
    with (
        NodeWorkers(launch, nodes) if nodes else Workers(launch) as workers,
        EnergyMeter(plan.config.energy, launch.nodes) as meter,
    ):
        for number, step in enumerate(plan.steps):
            try:
                if isinstance(workers, NodeWorkers):
                    workers.step = number
                results.append(_execute(step, plan, workers, meter, display))
                if nodes:
                    nodes.tell(f"passed-{number}")
            except ProvetuneError as error:
                results.append(NodeResult(step.node, step.artifact, "failed", {"message": str(error)}))
                display.finish(step.node.name, "failed")
                raise type(error)(f"{step.node.name}: {error}") from None
            except OSError as error:
                results.append(NodeResult(step.node, step.artifact, "failed", {"message": str(error)}))
                display.finish(step.node.name, "failed")
                raise StageFailed(f"{step.node.name}: {_explain_os_error(error)}") from None


def _explain_os_error(error: OSError) -> str:
    """A full disk, or whatever else the operating system refused."""
    if error.errno == 28:
        return "no space left on the disk of the outputs folder; free some, or set outputs=FOLDER on another disk"
    return f"{error.strerror or error} ({error.filename or 'the worker'})"


def _execute(step: Step, plan: Plan, workers: Workers, meter: EnergyMeter, display: Display) -> NodeResult:
    """One node: cached, or made under its lock."""
    node, artifact = step.node, step.artifact
    if artifact.state(plan.hashes) == "cached":
        return _cached(node, artifact, display)
    with artifact.lock(plan.config.lock_wait, display.say):
        state = artifact.state(plan.hashes)  # another run may have finished it while we waited
        if state == "cached":
            return _cached(node, artifact, display)
        if state == "damaged":
            display.say(f"! {node.name}: {artifact.damage(plan.hashes)} in {artifact.folder}; made again")
            artifact.clear()
        if state == "new" and artifact.leftovers():
            display.say(f"! {node.name}: unfinished in {artifact.folder}; made again")
        _lay_out(node, artifact, plan.input_paths(node))
        display.start(node.name)
        started = time.monotonic()
        meter.begin()
        finished = workers.run(artifact.folder, node.ranks, display.event)
        outcome: Outcome = "resumed" if state == "resume" else "ran"
        write_json(artifact.folder / "metrics.json", finished.metrics)
        record = {
            "kind": node.kind,
            "fingerprint": node.fingerprint,
            "version": node.version,
            "outcome": outcome,
            "seconds": round(time.monotonic() - started, 3),
            "energy": meter.end(),
            "peak_memory_bytes": finished.peak_memory,
            "metrics": finished.metrics,
            "packages": package_versions(),
        }
        done = artifact.seal(record, plan.hashes)
    display.finish(node.name, outcome, summary(finished.metrics))
    return NodeResult(node, artifact, outcome, done)


def _cached(node: Node, artifact: Artifact, display: Display) -> NodeResult:
    """Use a finished artifact."""
    done = read_json(artifact.done_file)
    display.finish(node.name, "cached", summary(done["metrics"]))
    return NodeResult(node, artifact, "cached", done)


def _lay_out(node: Node, artifact: Artifact, inputs: Mapping[str, Path]) -> None:
    """An artifact folder with the frozen `stage.yaml` of the worker; of earlier tries, checkpoints and logs stay."""
    artifact.folder.mkdir(parents=True, exist_ok=True)
    for path in artifact.folder.iterdir():
        if path.name not in ("checkpoints", "logs"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    stage = {
        "name": node.name,
        "kind": node.kind,
        "version": node.version,
        "fingerprint": node.fingerprint,
        "config": dict(node.config),
        "inputs": {label: str(path) for label, path in inputs.items()},
    }
    plain = json.loads(json.dumps(stage))  # YAML anchors for shared objects would puzzle a reader
    write_text(artifact.folder / "stage.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    fingerprints = {label: output.node.fingerprint for label, output in node.inputs.items()}
    write_json(artifact.folder / "inputs.json", fingerprints)


def summary(metrics: Mapping[str, float], most: int = 3) -> str:
    """The first metrics on one line."""
    shown = [f"{name} {value:,.4g}" if value < 1e6 else f"{name} {value:,.0f}" for name, value in metrics.items()]
    return " · ".join(shown[:most])

"""`manifest.json`: all that is needed to make a run again, begun before anything runs and completed at its end."""

import importlib.metadata
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.artifacts import write_text
from pipeline.plan import Plan
from pipeline.provenance import environment, file_list_hash, working_changes
from pipeline.runner import NodeResult
from pipeline.secrets import redacted

CHANGES = "changes.patch"
"""The difference of the work tree from its commit, secrets blotted out."""
_MAX_CHANGES = 4 * 2**20
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


def command_line(overrides: Sequence[str]) -> str:
    """The command that starts this run again."""
    return shlex.join(["python", "-m", "pipeline", *overrides])


def begun(plan: Plan, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """What is about to run, with what. Writes `changes.patch` where the work tree differs from its commit."""
    changes = working_changes()
    (folder / CHANGES).unlink(missing_ok=True)
    if changes:
        write_text(folder / CHANGES, redacted(changes[:_MAX_CHANGES]))
    config = plan.config.model_dump(mode="json", by_alias=True)
    return {
        "run_id": folder.name,
        "status": "started",
        "provetune": __version__,
        "command": command_line(overrides),
        "overrides": list(overrides),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "sources": {
            "model": {"source": plan.config.model.source, **plan.model.identity},
            "data": {
                name: {"source": plan.config.data[name].source, **origin.identity} for name, origin in plan.data.items()
            },
        },
        "nodes": [
            {"name": step.node.name, "kind": step.node.kind, "fingerprint": step.node.fingerprint}
            for step in plan.steps
        ],
        "seeds": dict(_seeds(config)),
        "numerics": {"dtype": plan.config.model.dtype, "attention": plan.config.model.attention},
        "environment": environment(plan.config.seed),
        "packages": _installed(),
    }


def completed(
    manifest: Mapping[str, Any], plan: Plan, results: Sequence[NodeResult], failure: str | None
) -> dict[str, Any]:
    """The manifest at the end of the run: how each node ended, and the hashes of what the run was made of."""
    made = {result.node.name: result for result in results if result.outcome != "failed"}
    return {
        **manifest,
        "status": "failed" if failure is not None else "complete",
        "failure": redacted(failure) if failure is not None else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "outcomes": {result.node.name: result.outcome for result in results},
        "model": _model(made),
        "data": _splits(plan, made),
    }


def _seeds(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every setting called `seed`, by its full name."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{name}.")
        elif name == "seed" and isinstance(value, int):
            yield f"{prefix}{name}", value


def _installed() -> dict[str, dict[str, str]]:
    """Every installed distribution: its version, and the hash of its list of files with their hashes."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name] = {"version": distribution.version, "files_sha256": file_list_hash(distribution)}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _model(made: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Hashes of the base model's weights, tokenizer and template, as far as the run holds files of its own."""
    result = made.get("model") or made.get("model/start")
    if result is None:
        return {}
    inside = {name.removeprefix("model/"): digest for name, digest in result.done.get("files", {}).items()}
    template = inside.get("chat_template.jinja")
    return {
        "weights": {name: digest for name, digest in inside.items() if name.endswith(".safetensors")},
        "tokenizer": {name: inside[name] for name in _TOKENIZER_FILES if name in inside},
        "template_sha256": template,
    }


def _splits(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, dict[str, str]]:
    """Data set → split → sha256 of its rows, after the last stage that touched it."""
    found: dict[str, dict[str, str]] = {}
    for name, output in plan.flow.datasets.items():
        result = made.get(output.node.name)
        if result is None:
            continue
        inside = f"{output.path}/" if output.path else ""
        rows = {
            Path(file).stem: digest
            for file, digest in result.done.get("files", {}).items()
            if file.startswith(inside)
            and file.removeprefix(inside) in ("train.jsonl", "validation.jsonl", "test.jsonl")
        }
        found[name] = rows
    return found

"""From artifacts to report.json: the one source of everything that a report shows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json
from pipeline.estimate import estimate
from pipeline.model_facts import facts_of
from pipeline.plan import Plan
from pipeline.report.cautions import warnings_of
from pipeline.report.schema import SCHEMA_VERSION
from pipeline.report.verdict import headline
from pipeline.runner import NodeResult
from pipeline.tracking import tracked

NO_METRICS = frozenset({"tokens", "tokens_per_second"})
"""Shown in columns of their own."""


def collect(
    plan: Plan, manifest: Mapping[str, Any], results: Sequence[NodeResult], failure: str | None, seconds: float
) -> dict[str, Any]:
    """The report of a run, finished or failed; a part whose artifact is missing is left out."""
    made = {result.node.name: result for result in results if result.outcome != "failed"}
    evaluation = _evaluation(plan, made)
    confidence = _confidence(plan)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": _run(manifest, results, failure, seconds),
        "config": manifest["config"],
        "environment": manifest["environment"],
        "model": _model(plan, made),
        "data": _data(plan, made),
        "stages": _stages(plan, results),
        "training": _training(plan, made),
        "evaluation": evaluation,
        "verdict": headline(evaluation["comparisons"], confidence),
        "reproduce": _reproduce(manifest),
        "warnings": warnings_of(plan, manifest, made),
    }


def _run(
    manifest: Mapping[str, Any], results: Sequence[NodeResult], failure: str | None, seconds: float
) -> dict[str, Any]:
    failed = None
    if failure is not None:
        last = results[-1] if results and results[-1].outcome == "failed" else None
        log = f"artifacts/{last.artifact.folder.parent.name}/{last.artifact.folder.name}/logs" if last else None
        failed = {
            "stage": last.node.name if last else None,
            "message": last.done["message"] if last else failure,
            "log": log,
        }
    return {
        "id": manifest["run_id"],
        "status": "failed" if failed else "complete",
        "failed": failed,
        "command": manifest["command"],
        "experiment": manifest["config"]["experiment"],
        "started": manifest["started"],
        "seconds": round(seconds, 3),
        "provetune": manifest["provetune"],
    }


def _model(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Name, architecture, size and template of the model the run starts from."""
    told: dict[str, Any] = {"name": plan.config.model.name, "source": plan.config.model.source}
    if "model" not in made:
        return told
    folder = made["model"].artifact.folder / "model"
    facts = facts_of(folder)
    architecture = read_json(folder / "config.json").get("architectures") or [None]
    told |= {
        "architecture": architecture[0],
        "parameters": facts.parameters if facts else None,
        "fingerprint": made["model"].node.fingerprint,
        "template_sha256": next(_template_hashes(plan, made), None),
    }
    return told


def _template_hashes(plan: Plan, made: Mapping[str, NodeResult]) -> Iterator[str]:
    """The template that predictions were made with."""
    for comparison in _comparisons(plan, made).values():
        for policies in comparison["policies"].values():
            if policies.get("template_sha256"):
                yield policies["template_sha256"]


def _data(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Per data set: source, funnel and splits, after the last stage that touched it."""
    described = {}
    for name, dataset in plan.config.data.items():
        loaded = made.get(f"data/{name}")
        output = plan.flow.datasets[name]
        final = made.get(output.node.name)
        if loaded is None:
            continue
        stats = read_json(loaded.artifact.folder / "stats.json")
        funnel, limits, tested = [{"step": "read", "rows": stats["read"], "dropped": 0}], [], []
        if final is not None and (final.artifact.folder / "funnel.json").exists():
            funnel = read_json(final.artifact.folder / "funnel.json")[name]
            limits = read_json(final.artifact.folder / "what_if.json")["limits"]
            if (final.artifact.folder / "self_test.json").exists():
                tested = _self_test(read_json(final.artifact.folder / "self_test.json"))
        folder = (final or loaded).artifact.folder / (output.path if final else "")
        sealed = (final or loaded).done["files"]
        splits = read_json(folder / "stats.json")["splits"]
        inside = f"{output.path}/" if output.path and final else ""
        described[name] = {
            "source": dataset.source,
            "format": stats["format"],
            "fingerprint": (final or loaded).node.fingerprint,
            "funnel": funnel,
            "what_if": limits,
            "self_test": tested,
            "splits": splits,
            "split_sha256": {
                split: sealed[f"{inside}{split}.jsonl"] for split in splits if f"{inside}{split}.jsonl" in sealed
            },
        }
    return described


def _stages(plan: Plan, results: Sequence[NodeResult]) -> list[dict[str, Any]]:
    """One row per node that was reached."""
    costs = {step.node.name: cost for step, cost in zip(plan.steps, estimate(plan), strict=True)}
    rows = []
    for result in results:
        metrics = dict(result.done.get("metrics", {}))
        rows.append(
            {
                "name": result.node.name,
                "kind": result.node.kind,
                "fingerprint": result.node.fingerprint,
                "outcome": result.outcome,
                "seconds": result.done.get("seconds"),
                "tokens": metrics.get("tokens"),
                "tokens_per_second": metrics.get("tokens_per_second"),
                "energy": result.done.get("energy"),
                "peak_memory_bytes": result.done.get("peak_memory_bytes"),
                "estimated_memory_bytes": costs[result.node.name].memory,
                "metrics": {name: value for name, value in metrics.items() if name not in NO_METRICS},
                "artifact": f"artifacts/{result.node.kind}/{result.node.fingerprint}",
            }
        )
    return rows


def _training(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Per training stage: its step log, validation losses, mask audit and preview."""
    told = {}
    for name in plan.config.run:
        train, prepare = made.get(f"{name}/train"), made.get(f"{name}/prepare")
        if train is None or prepare is None:
            continue
        audit = read_json(prepare.artifact.folder / "audit.json")
        split = audit["splits"]["train"]
        seen = train.done["metrics"]["steps"] * train.node.config["batch_size"]
        told[name] = {
            "steps": _lines(train.artifact.folder / "steps.jsonl"),
            "validation": _lines(train.artifact.folder / "validation.jsonl"),
            "audit": {
                **split,
                "length_quantiles": split["lengths"],
                "probes": audit.get("probes", []),
                "preview": None,
            },
            "preview": split.get("preview", []),
            "trainable_parameters": train.done["metrics"].get("trainable_parameters"),
            "adapter": train.node.config["adapter"],
            "experts": read_json(routing) if (routing := train.artifact.folder / "routing.json").exists() else [],
            "tracking": tracked(train.artifact.folder),
            "rows_seen": round(min(1, seen / split.get("packed_rows", split["rows"])) * split["rows"]),
        }
    return told


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().split(b"\n") if line] if file.exists() else []


def _comparisons(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, dict[str, Any]]:
    """`<tuned>_vs_<base>` → the comparison artifact, in the run's order."""
    nodes = [step.node for step in plan.steps if step.node.kind == "evaluate.compare" and step.node.name in made]
    return {
        node.name.rsplit("/", 1)[-1]: read_json(made[node.name].artifact.folder / "comparison.json") for node in nodes
    }


def _evaluation(plan: Plan, made: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Metrics per model, comparisons, samples and policies."""
    parts = ("models", "comparisons", "samples", "policies", "overlap", "judge", "scale")
    evaluation: dict[str, Any] = {part: {} for part in parts}
    for name, found in _comparisons(plan, made).items():
        tuned, _, base = name.partition("_vs_")
        evaluation["models"].setdefault(base, {}).update(found["base"])
        evaluation["models"].setdefault(tuned, {}).update(found["tuned"])
        evaluation["comparisons"][name] = found["comparison"]
        evaluation["overlap"] |= found.get("overlap", {})
        evaluation["scale"] |= found["scale"]
        if found["judge"]:
            evaluation["judge"][name] = {
                dataset: told | {"labelling_page": _labelling_page(made, name, dataset)}
                for dataset, told in found["judge"].items()
            }
        for dataset, policies in found["policies"].items():
            evaluation["policies"][dataset] = {name: told for name, told in policies.items() if name != "keys"}
        for dataset, samples in found["samples"].items():
            evaluation["samples"][name] = {"task": f"rouge/{dataset}", "metric": "rougeL", **samples}
    return evaluation


def _labelling_page(made: Mapping[str, NodeResult], comparison: str, dataset: str) -> str | None:
    """Where the page lies on which a person can judge the same pairs, below the outputs folder."""
    for result in made.values():
        if result.node.kind == "evaluate.judge" and result.node.name.endswith(f"/judge/{comparison}/{dataset}"):
            page = result.artifact.folder / "labelling.html"
            return f"artifacts/{result.node.kind}/{result.node.fingerprint}/labelling.html" if page.exists() else None
    return None


def _confidence(plan: Plan) -> float:
    """The confidence of the last evaluation's intervals."""
    nodes = [step.node for step in plan.steps if step.node.kind == "evaluate.compare"]
    return nodes[-1].config["statistics"]["confidence"] if nodes else 0.95


def _reproduce(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The commands that make this run again, from the commit and the pinned versions."""
    git = manifest["environment"]["git"]
    checkout = [f"git checkout {git['commit']}"] if git else []
    install = "pip install -c constraints.txt torch==2.13.0 -e . && pip install --no-deps -r demo-packages.txt"
    return {"commands": [*checkout, install, manifest["command"]], "overrides": manifest["overrides"]}


def _self_test(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the self-test's table: each step, then what was planted for it kind by kind."""
    rows: list[dict[str, Any]] = []
    for step, rates in found.items():
        if step == "not_tested":
            rows.append({"kind": "self-test", "note": rates})
        elif isinstance(rates, Mapping) and "not_tested" in rates:
            rows.append({"kind": step, "note": rates["not_tested"]})
        elif isinstance(rates, Mapping):
            rows += [_rates(step, rates), *(_rates(f"{step}: {kind}", each) for kind, each in rates["kinds"].items())]
    return rows


def _rates(kind: str, rates: Mapping[str, Any]) -> dict[str, Any]:
    shares = {name: rates[name]["value"] if rates.get(name) else None for name in ("recall", "precision")}
    return {"kind": kind.replace("_", " "), "planted": rates["planted"], "found": rates["found"], **shares}

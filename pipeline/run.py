"""One run, from a typed configuration to its report; or its plan."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.artifacts import write_json
from pipeline.config import LATEST, RunConfig
from pipeline.console import Display
from pipeline.cost import cost_lines
from pipeline.errors import ConfigError, ProvetuneError, printable
from pipeline.estimate import plan_table
from pipeline.manifest import begun, completed
from pipeline.node_runner import follow_node_0
from pipeline.nodes import Nodes, identity
from pipeline.plan import Plan, make_plan
from pipeline.preemption import heed_signals
from pipeline.recorded import seal_run
from pipeline.runner import NodeResult, execute
from pipeline.secrets import refuse_secrets
from pipeline.tracking import refuse_missing, told_to_workers


def run(config: RunConfig, overrides: Sequence[str]) -> int:
    """Plan, and unless `mode=plan` execute and report. The exit code; errors are raised after the report is written."""
    console = Console(highlight=False, emoji=False)
    refuse_secrets(config.model_dump(mode="json", by_alias=True))
    refuse_missing(config.tracking)
    plan = make_plan(config)
    if config.mode == "plan":
        console.print(plan_table(plan))
        console.print("\n".join(cost_lines([plan])), markup=False, soft_wrap=True)
        return 0
    with heed_signals():
        if config.launch.nodes > 1:
            return _run_on_nodes(plan, overrides, console)
        return _run_here(plan, overrides, console)


def _run_on_nodes(plan: Plan, overrides: Sequence[str], console: Console) -> int:
    """This machine's part of a run on several; only node 0 reports."""
    config = plan.config
    run_id = config.run_id or (f"slurm-{os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else None)
    if run_id is None:
        raise ConfigError(f"run_id: not set; the {config.launch.nodes} nodes find each other by it, run_id=NAME")
    place = Path(config.outputs).expanduser().absolute() / "runs" / run_id / "nodes"
    with Nodes(config.launch, place, identity([step.node.fingerprint for step in plan.steps])) as nodes:
        if nodes.rank == 0:
            return _run_here(
                replace(plan, config=config.model_copy(update={"run_id": run_id})), overrides, console, nodes
            )
        console.print(f"node {nodes.rank} ({nodes.host}) of {config.launch.nodes}", markup=False)
        follow_node_0(plan, nodes, Display(console))
        return 0


def _run_here(plan: Plan, overrides: Sequence[str], console: Console, nodes: Nodes | None = None) -> int:
    """Execute a plan and report."""
    folder = _run_folder(plan.config)
    started = time.time()
    manifest = begun(plan, overrides, folder)
    write_json(folder / "manifest.json", manifest)
    console.print(printable(f"run {folder.name} → {folder}"), markup=False, soft_wrap=True)
    results: list[NodeResult] = []
    failure: ProvetuneError | None = None
    try:
        with told_to_workers(plan.config.tracking, folder.name, folder.parent.parent):
            execute(plan, Display(console), results, nodes)
    except ProvetuneError as error:
        failure = error
    try:
        _report(plan, manifest, results, failure, time.time() - started, folder, console)
    except OSError:
        if failure is None:
            raise
    if failure is None and plan.config.push_to_hub is not None:
        from pipeline.report.model_folder import push

        console.print(printable(f"Uploaded to {push(folder, plan.config.push_to_hub)}"), markup=False, soft_wrap=True)
    if failure is not None:  # what stopped the run is told first, also where no report could be written
        raise failure
    return 0


def _run_folder(config: RunConfig) -> Path:
    """`outputs/runs/<run_id>`; a given run_id may be used again only for the same configuration."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    runs = Path(config.outputs).expanduser() / "runs"
    if config.run_id is None:
        wanted = f"{moment}-{config.experiment or 'run'}"
        names = [wanted, *(f"{wanted}-{count}" for count in range(2, 1000))]
        folder = next(runs / name for name in names if not (runs / name).exists())
    else:
        folder = runs / config.run_id
        _refuse_changed(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _refuse_changed(folder: Path, config: RunConfig) -> None:
    """A run folder speaks of one configuration only."""
    from pipeline.artifacts import read_json

    manifest = folder / "manifest.json"
    try:
        same = read_json(manifest)["config"] == config.model_dump(mode="json", by_alias=True)
    except FileNotFoundError:
        same = True
    except (ValueError, KeyError, TypeError):
        same = False  # a damaged manifest says nothing
    if not same:
        raise ConfigError(
            f"run_id: {folder.name} exists with another configuration; choose another run_id, or remove {folder}"
        )


def _report(
    plan: Plan,
    manifest: dict[str, Any],
    results: list[NodeResult],
    failure: ProvetuneError | None,
    seconds: float,
    folder: Path,
    console: Console,
) -> None:
    """Write report.json, .html and .md, point `latest` at the run, and print the verdict."""
    from pipeline.report.collect import collect
    from pipeline.report.console import console_summary
    from pipeline.report.model_folder import write_model_folder
    from pipeline.report.render import write_report

    report = collect(plan, manifest, results, str(failure) if failure else None, seconds)
    write_json(folder / "report.json", report)
    page = write_report(report, folder)
    write_model_folder(report, folder)
    write_json(folder / "manifest.json", completed(manifest, plan, results, str(failure) if failure else None))
    seal_run(folder)
    _point_latest(folder)
    if failure is None:
        console.print()
        console.print(console_summary(report, page))
    else:
        console.print(printable(f"report of what was done: {page}"), markup=False, soft_wrap=True)


def _point_latest(folder: Path) -> None:
    """`outputs/runs/latest` → the newest run, replaced in one step."""
    link = folder.with_name(LATEST)
    temporary = folder.with_name(f".latest.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(link)

"""Sweeps: `-m key=a,b`. Hydra composes each point, a launcher runs the jobs, and the end says how each ended.

Jobs share artifacts by their locks; a job whose run is complete is not run again, so that the same command after a
failure runs only what is missing. With pipeline/cli.py the only module that imports Hydra.
"""

import copy
import hashlib
import importlib.resources
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from pipeline.artifacts import write_json
from pipeline.cli import compose_open, expand, explain, nearest, options, plain_values, refuse_malformed
from pipeline.config import RunConfig, validate
from pipeline.console import table
from pipeline.errors import ConfigError, ProvetuneError, printable
from pipeline.launchers import RUN_ON
from pipeline.launchers_config import LAUNCHERS
from pipeline.search import Dimension, Search, ended_before, group_size, refuse_unfit
from pipeline.search_config import SWEEPERS, Optuna
from pipeline.secrets import refuse_secrets
from pipeline.sweep_jobs import Job, Outcome, best_first, is_complete, run_job

NEXT = "the same command runs only what is missing"


def sweep(given: Sequence[str]) -> int:
    """Run every point of a sweep. The worst exit code; raises ConfigError for what is wrong before the first job."""
    refuse_malformed(given)
    sweeper, given = choose_sweeper(given)
    launcher, rest = choose_launcher(given)
    if sweeper is not None:
        return _search(sweeper, launcher, rest)
    rest += declared_choices(rest)
    points = [list(point) for point in itertools.product(*(choices(override) for override in rest))]
    composed = compose_points(points)
    configs = [config for config in map(_typed, composed) if config is not None]
    if not configs:
        validate(RunConfig, composed[0])  # no point can run: its error, before anything starts
    for config in configs:
        refuse_secrets(config.model_dump(mode="json", by_alias=True))  # before the sweep's own files are written
    folder = sweep_folder(rest, configs[0].outputs)
    jobs = [
        Job(number, point, plain, str((folder / str(number)).absolute()))
        for number, (point, plain) in enumerate(zip(points, composed, strict=True))
    ]
    console = Console(highlight=False, emoji=False)
    planned = any(config.mode == "plan" for config in configs)
    if any(config.budget is not None for config in configs) and not planned:
        _show_cost(configs, console)
    outcomes: list[Outcome] = []
    try:
        run_on = RUN_ON["basic" if planned else launcher.kind]  # a plan needs no cluster
        if (
            launcher.kind not in ("basic", "joblib") and not planned
        ):  # to find a job complete costs less than to start it
            outcomes += [Outcome(**run_job(asdict(job))) for job in jobs if is_complete(job)]
        todo = [job for job in jobs if job.number not in {outcome.number for outcome in outcomes}]
        outcomes.extend(_told(outcome) for outcome in (run_on(launcher, todo, folder) if todo else ()))
    finally:
        if outcomes and not planned:
            _conclude(folder, outcomes, jobs, configs, console)
    if planned:
        _show_cost(configs, console)
    return max(outcome.code for outcome in outcomes)


def _typed(plain: dict[str, Any]) -> RunConfig | None:
    """A point past the gate; None where its job will be refused."""
    try:
        return validate(RunConfig, plain)
    except ProvetuneError:
        return None


def _told(outcome: Outcome) -> Outcome:
    """Say at once why a job failed: the others may go on for days."""
    for line in (outcome.message or "").splitlines():
        print(f"error: {printable(line)}", file=sys.stderr, flush=True)
    return outcome


def choose_launcher(given: Sequence[str]) -> tuple[Any, list[str]]:
    """The launcher's settings from `hydra/launcher=NAME` and `hydra.launcher.KEY=VALUE`, and the other overrides."""
    name, settings, rest = _chosen("launcher", given)
    for override in rest:
        if override.lstrip("+").startswith("hydra"):
            raise ConfigError(
                f"{override}: of Hydra's own settings, a sweep takes hydra/launcher=NAME and hydra.launcher.KEY=VALUE"
            )
    values = _named("launcher", name or "basic", {"basic": {"kind": "basic"}}) | settings
    return validate(LAUNCHERS[values["kind"]], values, prefix="hydra.launcher"), rest


def choose_sweeper(given: Sequence[str]) -> tuple[Optuna | None, list[str]]:
    """The settings of a search, as for the launcher; None for a grid (`basic`)."""
    name, settings, rest = _chosen("sweeper", given)
    if name in (None, "basic"):
        if settings:
            raise ConfigError(f"hydra.sweeper.{next(iter(settings))}: a grid has no settings; add hydra/sweeper=optuna")
        return None, rest
    values = _named("sweeper", name, {"basic": {}}) | settings
    return validate(SWEEPERS[values["kind"]], values, prefix="hydra.sweeper"), rest


def _chosen(what: str, given: Sequence[str]) -> tuple[str | None, dict[str, Any], list[str]]:
    """`hydra/WHAT=NAME`, the settings behind `hydra.WHAT.`, and the other overrides."""
    name, settings, rest = None, {}, []
    for override in given:
        key, _, value = override.lstrip("+").partition("=")
        if key == f"hydra/{what}":
            name = value
        elif key.startswith(f"hydra.{what}."):
            settings[key.removeprefix(f"hydra.{what}.")] = yaml.safe_load(value)
        else:
            rest.append(override)
    return name, settings, rest


def _named(what: str, name: str, own: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What conf/ says under a name. Hydra has a basic.yaml of its own, and would clash with ours: it is `own`."""
    known = [*own, *options(f"hydra/{what}")]
    if name not in known:
        raise ConfigError(f"hydra/{what}={name}: unknown {what}{nearest(name, known)}; allowed: {', '.join(known)}")
    if name in own:
        return own[name]
    text = (importlib.resources.files("conf") / f"hydra/{what}" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def declared_choices(given: Sequence[str]) -> list[str]:
    """What the chosen experiment sweeps by itself (`hydra.sweeper.params` in its file) and nobody has set."""
    said = {expand(override)[0].lstrip("+~").partition("=")[0] for override in given}
    composed = compose_open([choices(override)[0] for override in given], with_hydra=True)
    declared = composed.hydra.sweeper.params or {}
    return [f"{key}={value}" for key, value in declared.items() if key not in said]


def choices(override: str) -> list[str]:
    """One override per choice of a sweep's override. Raises ConfigError when Hydra cannot read it."""
    parsed = _parsed(override)
    if parsed is None or not parsed.is_sweep_override():
        return [override]
    if not parsed.is_discrete_sweep():
        raise ConfigError(f"{override}: an interval has no end of values; write them out, or range(start,stop,step)")
    return [f"{parsed.get_key_element().removeprefix('++')}={value}" for value in parsed.sweep_string_iterator()]


def dimension(override: str) -> Dimension | None:
    """What a search chooses of an override; None where nothing is to be chosen. ConfigError as for `choices`."""
    parsed = _parsed(override)
    if parsed is None or not parsed.is_sweep_override():
        return None
    key = parsed.get_key_element().removeprefix("++")
    if parsed.is_discrete_sweep():
        return Dimension(key, choices=tuple(map(str, parsed.sweep_string_iterator())))
    interval = parsed.value()
    whole = isinstance(interval.start, int) and isinstance(interval.end, int)
    return Dimension(key, None, interval.start, interval.end, log="log" in interval.tags, whole=whole)


def _search(sweeper: Optuna, launcher: Any, overrides: Sequence[str]) -> int:
    """A search by Optuna; the worst exit code of its trials."""
    found = {override: dimension(override) for override in overrides}
    dimensions = [one for one in found.values() if one is not None]
    fixed = [override for override, one in found.items() if one is None]
    (plain,) = compose_points([[*fixed, *(one.example for one in dimensions)]])
    config = validate(RunConfig, plain)
    refuse_unfit(sweeper, dimensions, config)
    refuse_secrets(config.model_dump(mode="json", by_alias=True))
    if config.mode == "plan":
        raise ConfigError("mode=plan: a search chooses as it goes; plan one of its points, or a grid")
    told = sweeper.model_dump(exclude={"trials", "at_once"})
    folder = sweep_folder([*overrides, json.dumps(told, sort_keys=True)], config.outputs)

    def make_job(number: int, chosen: list[str], rule: dict[str, Any] | None) -> Job:
        point = [*fixed, *chosen]
        return Job(number, point, compose_points([point])[0], str(folder / str(number)), rule)

    search = Search(
        sweeper,
        dimensions,
        [objective.direction for objective in config.optimise],
        folder,
        make_job,
        lambda jobs: RUN_ON[launcher.kind](launcher, jobs, folder),
        group_size(sweeper, launcher),
    )
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(_told(outcome) for outcome in search.go())
    finally:
        jobs = search.trials()
        every = [*outcomes, *ended_before(jobs, outcomes)]
        if every:
            _conclude(folder, every, jobs, [config], Console(highlight=False, emoji=False), search.front())
    return max((outcome.code for outcome in outcomes), default=0)


def _parsed(override: str) -> Any:
    """An override as Hydra reads it; None for one path, commas and all."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    expanded = expand(override)
    if len(expanded) > 1:
        return None
    try:
        return OverridesParser.create().parse_override(expanded[0])
    except HydraException as error:
        raise ConfigError(explain(error)) from None


def compose_points(points: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The plain configuration of each point.

    Hydra composes once per choice of groups (0.1 s each); what only sets fields is set on a copy, as Hydra would do.
    """
    from omegaconf import OmegaConf

    fixed = {override for override in points[0] if all(override in point for point in points)}
    made: dict[tuple[str, ...], Any] = {}
    plain = []
    for point in points:
        fields = [override for override in point if override not in fixed and expand(override)[0].startswith("++")]
        groups = tuple(override for override in point if override not in fields)
        if groups not in made:
            made[groups] = compose_open(groups)
        composed = copy.deepcopy(made[groups])
        for override in fields:
            parsed = _parsed(override)
            OmegaConf.update(composed, parsed.key_or_group, parsed.value(), merge=True, force_add=True)
        plain.append(plain_values(composed))
    return plain


def sweep_folder(overrides: Sequence[str], outputs: str) -> Path:
    """Where a sweep keeps how its jobs ended: the same overrides find the same folder."""
    digest = hashlib.sha256(json.dumps(sorted(overrides)).encode()).hexdigest()[:10]
    return (Path(outputs).expanduser() / "sweeps" / digest).absolute()


def _show_cost(configs: Sequence[RunConfig], console: Console) -> None:
    """What all points will cost together, shared artifacts once."""
    from pipeline.cost import cost_lines
    from pipeline.plan import make_plan

    for line in cost_lines([make_plan(config) for config in configs]):
        console.print(line, markup=False, soft_wrap=True)


def _conclude(
    folder: Path,
    outcomes: Sequence[Outcome],
    jobs: Sequence[Job],
    configs: Sequence[RunConfig],
    console: Console,
    front: Sequence[int] = (),
) -> None:
    """Write sweep.json and show how each job ended, the best first."""
    objectives = configs[0].optimise
    ended = best_first(outcomes, [objective.direction for objective in objectives])
    missing = [job.number for job in jobs if job.number not in {outcome.number for outcome in outcomes}]
    record = {
        "optimise": [objective.model_dump() for objective in objectives],
        "jobs": [asdict(outcome) for outcome in ended],
        "not_ended": missing,
        "best": list(front),
    }
    write_json(folder / "sweep.json", record)
    rows = [[*_varied(one, jobs), one.status, *_numbers(one, len(objectives)), one.run or ""] for one in ended]
    names = [objective.metric.rsplit(".", 1)[-1] for objective in objectives]
    console.print(table("sweep", ["job", "choices", "ended", *names, "run"], rows))
    if front:
        console.print(f"best: {'job' if len(front) == 1 else 'jobs'} {', '.join(map(str, front))}")
    bad = [outcome for outcome in ended if outcome.code] or missing
    if bad:
        last = f"{len(bad)} of {len(jobs)} jobs have not succeeded ({folder}/*/failed.json); {NEXT}"
        console.print(printable(last), markup=False, soft_wrap=True)


def _varied(outcome: Outcome, jobs: Sequence[Job]) -> list[str]:
    """A job's number, and what it has that not every job has."""
    common = set.intersection(*(set(job.overrides) for job in jobs))
    own = [override for override in outcome.overrides if override not in common]
    return [str(outcome.number), " ".join(own) or "–"]


def _numbers(outcome: Outcome, count: int) -> list[str]:
    return [f"{value:.6g}" for value in outcome.values] or ["–"] * count

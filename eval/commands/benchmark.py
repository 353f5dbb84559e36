"""The packaged benchmarks, as the pipeline knows them: one YAML file each in conf/benchmark."""

import importlib.resources
from collections.abc import Mapping
from typing import Any

import yaml

from data_prep.commands.cli import UsageError
from data_prep.gate import nearest
from eval.commands.config import EvalConfig

_OF_THE_HUB = ("revision", "subset", "split", "only")


def benchmarks() -> list[str]:
    """Their names."""
    folder = importlib.resources.files("conf") / "benchmark"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def with_benchmarks(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were typed, with those of the packaged benchmarks among the tasks under them.

    What was typed wins, field by field: `settings.gsm8k.shots=2` keeps the rest, `data.gsm8k.source=FILE` reads the
    benchmark's rows from a file, another `kind` replaces the benchmark's own. Values of a wrong form are left to the
    gate.
    """
    tasks = values.get("tasks")
    if values.get("against") is not None or not isinstance(tasks, list):
        return dict(values)
    known, merged = benchmarks(), dict(values)
    for name in tasks:
        if name not in known:
            continue
        file = importlib.resources.files("conf") / "benchmark" / f"{name}.yaml"
        own = yaml.safe_load(file.read_text("utf-8"))
        evaluate, data = own["stages"]["evaluate"], own["data"][name]
        given = _typed(values, "data", name)
        if "source" in (given or {}):  # where the benchmark's own source is from says nothing about another one
            data = {key: value for key, value in data.items() if key not in _OF_THE_HUB}
        merged = _put(merged, "data", name, _over(data, given))
        asked = _typed(values, "settings", name)
        if name in evaluate.get("tasks", {}):
            merged = _put(merged, "settings", name, _over(evaluate["tasks"][name], asked))
        elif asked is None and _typed(values, "metrics", name) is None:
            merged = _put(merged, "metrics", name, evaluate["metrics"][name])
    return merged


def refuse_unknown(config: EvalConfig) -> None:
    """UsageError for a task that is neither a benchmark nor a data set of the user's own."""
    known = [*config.data, *(name for name in benchmarks() if name not in config.data)]
    for name in config.tasks:
        if name not in known:
            raise UsageError(
                f"tasks: {name}: no such benchmark{nearest(name, known)}; allowed: {', '.join(known)}, and names under "
                f"data (data.{name}.source=FILE)"
            )


def _typed(values: Mapping[str, Any], section: str, name: str) -> Any:
    found = values.get(section)
    return found.get(name) if isinstance(found, Mapping) else None


def _put(values: dict[str, Any], section: str, name: str, value: Any) -> dict[str, Any]:
    """The same with one entry of a section; a section that is no mapping stays for the gate to refuse."""
    before = values.get(section) or {}
    return {**values, section: {**before, name: value}} if isinstance(before, Mapping) else values


def _over(own: Any, given: Any) -> Any:
    """What was given over the benchmark's own, field by field; whole where there is no such section, or of another
    kind."""
    if given is None:
        return own
    if not isinstance(own, Mapping) or not isinstance(given, Mapping):
        return given
    if given.get("kind", own.get("kind")) != own.get("kind"):
        return dict(given)
    # A field that was typed as null is switched off, and so not the same as one that was not typed.
    return {**own, **{key: _over(own.get(key), value) if value is not None else None for key, value in given.items()}}

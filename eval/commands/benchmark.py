"""The packaged benchmarks, as the pipeline knows them: one YAML file each in conf/benchmark."""

import importlib.resources
from typing import Any

import yaml

from data_prep.commands.cli import UsageError
from data_prep.config import DatasetConfig
from data_prep.gate import build, nearest
from eval.commands.config import EvalConfig

_OF_THE_HUB = ("revision", "subset", "split")


def benchmarks() -> list[str]:
    """Their names."""
    folder = importlib.resources.files("conf") / "benchmark"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def with_benchmarks(config: EvalConfig) -> EvalConfig:
    """The same with data and settings of the benchmarks among its tasks; what was given for one of them wins, so that
    `data.gsm8k.source=FILE` reads the benchmark's rows from a file.

    UsageError for a task that is neither a benchmark nor a data set of the user's own.
    """
    values: dict[str, Any] = config.model_dump(mode="json")
    for name in config.tasks:
        if name not in benchmarks():
            if name in config.data:
                continue
            known = [*config.data, *benchmarks()]
            raise UsageError(
                f"tasks: {name}: no such benchmark{nearest(name, known)}; allowed: {', '.join(known)}, and names under "
                f"data (data.{name}.source=FILE)"
            )
        found = yaml.safe_load((importlib.resources.files("conf") / "benchmark" / f"{name}.yaml").read_text("utf-8"))
        evaluate = found["stages"]["evaluate"]
        given = config.data[name].model_dump(mode="json", exclude_unset=True) if name in config.data else {}
        own = {**found["data"][name], **given}
        if "source" in given:  # where the benchmark's own source is from says nothing about another one
            own = {key: value for key, value in own.items() if key in given or key not in _OF_THE_HUB}
        values["data"][name] = build(DatasetConfig, own, f"data.{name}", UsageError).model_dump()
        for field, own in (("settings", evaluate.get("tasks", {})), ("metrics", evaluate.get("metrics", {}))):
            if name in own and name not in values[field]:
                values[field][name] = own[name]
    return build(EvalConfig, values, "", UsageError)

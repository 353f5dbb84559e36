"""The packaged benchmarks, as the pipeline knows them: one YAML file each in conf/benchmark."""

import importlib.resources
from typing import Any

import yaml

from data_prep.commands.cli import UsageError
from data_prep.config import DatasetConfig
from data_prep.gate import build, nearest
from eval.commands.config import EvalConfig


def benchmarks() -> list[str]:
    """Their names."""
    folder = importlib.resources.files("conf") / "benchmark"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def with_benchmarks(config: EvalConfig) -> EvalConfig:
    """The same with data and settings of the benchmarks among its tasks; what was given for one of them wins.

    UsageError for a task that is neither a benchmark nor a data set of the user's own.
    """
    values: dict[str, Any] = config.model_dump(mode="json")
    for name in config.tasks:
        if name in config.data:
            continue
        if name not in benchmarks():
            known = [*config.data, *benchmarks()]
            raise UsageError(
                f"tasks: {name}: no such benchmark{nearest(name, known)}; allowed: {', '.join(known)}, and names under "
                f"data (data.{name}.source=FILE)"
            )
        found = yaml.safe_load((importlib.resources.files("conf") / "benchmark" / f"{name}.yaml").read_text("utf-8"))
        evaluate = found["stages"]["evaluate"]
        values["data"][name] = build(DatasetConfig, found["data"][name], f"data.{name}", UsageError).model_dump()
        for field, own in (("settings", evaluate.get("tasks", {})), ("metrics", evaluate.get("metrics", {}))):
            if name in own and name not in values[field]:
                values[field][name] = own[name]
    return build(EvalConfig, values, "", UsageError)

"""The named ways of decoding, as the pipeline knows them: one YAML file each in conf/decoding."""

import importlib.resources
from typing import Any

import yaml

from data_prep.commands.cli import UsageError
from data_prep.gate import nearest


def with_named_decoding(values: dict[str, Any]) -> dict[str, Any]:
    """`generation.decoding=top_p` replaced by what conf/decoding/top_p.yaml holds; UsageError for another name."""
    generation = values.get("generation")
    name = generation.get("decoding") if isinstance(generation, dict) else None
    if not isinstance(generation, dict) or not isinstance(name, str):
        return values
    files = {
        file.name.removesuffix(".yaml"): file
        for file in (importlib.resources.files("conf") / "decoding").iterdir()
        if file.name.endswith(".yaml")
    }
    if name not in files:
        raise UsageError(
            f"generation.decoding: {name}: unknown{nearest(name, list(files))}; allowed: {', '.join(sorted(files))}, "
            "and settings of your own (generation.decoding.kind=sample generation.decoding.top_k=20)"
        )
    return {**values, "generation": {**generation, "decoding": yaml.safe_load(files[name].read_text("utf-8"))}}

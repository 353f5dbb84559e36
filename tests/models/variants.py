"""The named variants of conf/model/scratch."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.models import ProvetuneConfig

FOLDER = Path(__file__).parents[2] / "conf" / "model" / "scratch"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
NANO = [name for name in NAMES if name.endswith("_nano")]


def architecture(name: str) -> dict[str, Any]:
    """The fields of a variant; a nano variant changes those of the one that it names."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    base = [
        architecture(parent.removeprefix("scratch/").removesuffix("@_here_")) for parent in content.get("defaults", [])
    ]
    return {**(base[0] if base else {}), **content["architecture"]}


def config(name: str, **changes: Any) -> ProvetuneConfig:
    """A variant's configuration, with changed fields."""
    return ProvetuneConfig(**architecture(name) | changes)

"""`python -m data_prep mix sources.NAME=FOLDER parts.NAME.weight=2 … output=FOLDER`: mix dataset folders."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from rich.console import Console

from data_prep.commands.cli import UsageError
from data_prep.commands.show import terminal_track
from data_prep.config import Mixture
from data_prep.errors import DataError
from data_prep.gate import build


class MixCommand(Mixture):
    """The settings of `Mixture`, the folders of its parts, and where the mixture goes."""

    sources: dict[str, str] = Field(min_length=1)
    """Name of each part → its dataset folder (with train.jsonl)."""

    output: str = Field(min_length=1)
    """Folder of the mixture."""

    @model_validator(mode="before")
    @classmethod
    def every_source_is_a_part(cls, values: Any) -> Any:
        """A source without settings is taken once."""
        if isinstance(values, dict) and isinstance(values.get("sources"), dict):
            parts = {name: {} for name in values["sources"]} | dict(values.get("parts") or {})
            return {**values, "parts": parts}
        return values


def run(words: list[str], settings: dict[str, Any]) -> None:
    """Mix, and print what each part gave."""
    from data_prep.mixture import mix

    if words:
        raise UsageError(f"{words[0]}: settings are key=value, e.g. sources.NAME={words[0]} output=FOLDER")
    command = build(MixCommand, settings, "", UsageError)
    for name in command.parts:
        if name not in command.sources:
            raise UsageError(f"parts.{name}: no such source; add sources.{name}=FOLDER, or remove it")
    folders = {name: Path(folder).expanduser() for name, folder in command.sources.items()}
    for name, folder in folders.items():
        if not (folder / "train.jsonl").exists():
            raise DataError(f"sources.{name}: {folder} holds no train.jsonl; give a dataset folder")
    stats = mix(folders, command, Path(command.output).expanduser(), terminal_track)
    Console().print(stats.get("mixture", stats))

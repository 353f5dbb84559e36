"""`python -m data_prep train-quality positive=… negative=… output=…`: train a quality classifier."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from rich.console import Console
from rich.table import Table

from data_prep.commands.cli import UsageError
from data_prep.curation.classifiers.config import TrainQuality
from data_prep.gate import build


class TrainQualityCommand(TrainQuality):
    """The settings of `TrainQuality`, and where the classifier goes."""

    output: str = Field(min_length=1)
    """Folder of the classifier; use it as `steps.classifiers.NAME.model=FOLDER`."""

    @field_validator("positive", "negative", "labelled", mode="before")
    @classmethod
    def one_file_is_a_list(cls, files: Any) -> Any:
        """`positive=good.txt` is short for `positive=[good.txt]`."""
        return [files] if isinstance(files, str) else files


def run(words: list[str], settings: dict[str, Any]) -> None:
    """Train, and print what the held-out texts say about the classifier."""
    from data_prep.curation.classifiers.train import train_quality

    if words:
        raise UsageError(f"{words[0]}: settings are key=value, e.g. positive={words[0]} negative=FILE output=FOLDER")
    command = build(TrainQualityCommand, settings, "", UsageError)
    out = Path(command.output).expanduser()
    held_out = train_quality(command, out)["held_out"]
    console = Console()
    interval = f"95 % interval {held_out['low']:.3f} to {held_out['high']:.3f}"
    console.print(f"AUC {held_out['auc']:.3f} ({interval}), held out")
    table = Table()
    for name in held_out["thresholds"][0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in held_out["thresholds"]:
        table.add_row(*(f"{value:.3g}" for value in row.values()))
    console.print(table)
    console.print(f"{out}: use it as steps.classifiers.quality.model={out}", markup=False, highlight=False)

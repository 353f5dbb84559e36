"""`python -m data_prep input=… output=…`: curate files."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from data_prep.commands.cli import UsageError
from data_prep.commands.show import show_result, show_self_test, terminal_track
from data_prep.config import DatasetConfig, Splits
from data_prep.curation.config import CurationSteps
from data_prep.curation.decide import decide
from data_prep.curation.measure import measure
from data_prep.engines.config import Engine, LocalEngine
from data_prep.gate import build, nearest
from data_prep.load import load
from data_prep.strict import StrictModel

NAME = "rows"
"""The name of the one data set; the kept rows end in rows.jsonl."""


class CurateCommand(StrictModel):
    """What is curated, and how."""

    input: str = Field(min_length=1)
    """A local path or glob, `package://NAME/PATH`, or a Hub id."""

    output: str = Field(min_length=1)
    """Folder of the result; the same command started again goes on where it was stopped."""

    steps: CurationSteps = CurationSteps()
    """The steps: a list of names (only these, each with its defaults), or settings of single steps."""

    against: dict[str, dict[str, Any]] = {}
    """The evaluations that rows must not repeat, for the step `decontamination`: a file (`against=FILE`), or by name
    any fields of a data set (`against.gsm8k={source: FILE, columns: {prompt: question, completion: answer}}`)."""

    data: dict[str, Any] = {}
    """How the files are read: any field of a data set but `source`, `role` and `splits`, e.g. `data.on_error=skip`."""

    engine: Engine = LocalEngine()
    """Processes of this machine, or Ray: `engine=ray`."""

    self_test: bool = False
    """Plant near-duplicates, personal data and leaks into a sample of the rows, and say how many are found."""

    @field_validator("steps", mode="before")
    @classmethod
    def steps_by_name(cls, steps: Any) -> Any:
        """`[exact_dedup, language]` means these and no other, each with its defaults."""
        if not isinstance(steps, list):
            return steps
        known = list(CurationSteps.model_fields)
        for name in steps:
            if name not in known:
                raise ValueError(f"no step {name!r}{nearest(name, known)}; allowed: {', '.join(known)}")
        return {name: {} if name in steps else None for name in known if name != "classifiers"}

    @field_validator("against", mode="before")
    @classmethod
    def against_a_file(cls, against: Any) -> Any:
        """`against=FILE` is short for `against.NAME.source=FILE`, named after the file."""
        return {Path(against).name.partition(".")[0]: {"source": against}} if isinstance(against, str) else against


def run(words: list[str], settings: dict[str, Any]) -> None:
    """Curate the files of `input` into the folder `output`."""
    if words:
        raise UsageError(f"{words[0]}: settings are key=value, e.g. input={words[0]} output=FOLDER")
    command = build(CurateCommand, settings, "", UsageError)
    if command.steps.decontamination and not command.against:
        raise UsageError("against: missing, but the step decontamination is on; set against=FILE of the evaluation")
    out = Path(command.output).expanduser()
    folder = out / ".input" / NAME
    load(NAME, _dataset(command), folder, None, terminal_track)
    against = _evaluation(command, out)
    job = measure({NAME: folder}, command.steps, out / "measured", command.engine, against, terminal_track)
    result = decide(job, command.steps, out, command.engine, terminal_track)
    finish(out)
    if command.self_test:
        from data_prep.curation.self_test.apply import self_test_of

        show_self_test(self_test_of(NAME, folder, command.steps, against, out))
    show_result(result["funnel"][NAME], out)


def finish(out: Path) -> None:
    """Bring the one data set from its folder to `rows.jsonl`: nothing here has splits."""
    folder = out / NAME
    (folder / "train.jsonl").replace(out / "rows.jsonl")
    (folder / "stats.json").replace(out / "stats.json")
    for split in ("validation", "test"):
        (folder / f"{split}.jsonl").unlink()
    folder.rmdir()


def _dataset(command: CurateCommand) -> DatasetConfig:
    for name in ("source", "role", "splits"):
        if name in command.data:
            raise UsageError(f"data.{name}: not for a curation alone; remove it")
    everything = Splits(train=1, validation=0, test=0)
    return build(DatasetConfig, {**command.data, "source": command.input, "splits": everything}, "data", UsageError)


def _evaluation(command: CurateCommand, out: Path) -> dict[str, Path]:
    folders = {name: out / ".input" / f"against-{name}" for name in command.against}
    for name, folder in folders.items():
        config = build(DatasetConfig, {"role": "eval", **command.against[name]}, f"against.{name}", UsageError)
        load(name, config, folder, None, terminal_track)
    return folders

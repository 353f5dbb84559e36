"""`python -m data_prep rethreshold FOLDER output=NEW steps.STEP.option=value`: decide again, measure nothing."""

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_prep.commands.cli import UsageError
from data_prep.commands.curate import NAME, finish
from data_prep.commands.show import show_result, terminal_track
from data_prep.curation.config import CurationSteps
from data_prep.curation.decide import decide
from data_prep.curation.job import Job
from data_prep.curation.measure import read_steps
from data_prep.engines.config import LocalEngine
from data_prep.errors import DataError
from data_prep.gate import build
from data_prep.strict import StrictModel, measured_part


class RethresholdCommand(StrictModel):
    """What is decided anew."""

    output: str
    """Folder of the new result."""

    steps: dict[str, Any] = {}
    """The thresholds that change."""


def run(words: list[str], settings: dict[str, Any]) -> None:
    """Decide again about the rows of an earlier curation."""
    if len(words) != 1:
        raise UsageError("rethreshold: give the folder of one curation, e.g. rethreshold curated output=again …")
    command = build(RethresholdCommand, settings, "", UsageError)
    out, job = Path(command.output).expanduser(), measured_job(Path(words[0]).expanduser())
    before = read_steps(job.folder)
    merged = OmegaConf.to_container(OmegaConf.merge(before.model_dump(), command.steps))
    steps = build(CurationSteps, merged, "steps", UsageError)
    for name in CurationSteps.model_fields:
        refuse_new_measures(name, before, steps)
    result = decide(job, steps, out, LocalEngine(), terminal_track)
    (dataset,) = job.datasets
    if dataset == NAME:
        finish(out)
    show_result(result["funnel"][dataset], out)


def measured_job(folder: Path) -> Job:
    """The measured job of a curation alone, of a filter stage, or the folder itself."""
    found = [each for each in (folder, folder / "measured") if (each / "job.json").exists()]
    inputs = folder / "inputs.json"
    if not found and inputs.exists():
        found = [Path(json.loads(inputs.read_text(encoding="utf-8"))["measured"])]
    if not found:
        raise DataError(f"{folder}: holds no measured job; give the output folder of `python -m data_prep`")
    return Job.load(found[0])


def refuse_new_measures(name: str, before: CurationSteps, after: CurationSteps) -> None:
    """Refuse a change that asks for measures nobody made."""
    old, new = measured_part(before).get(name), measured_part(after).get(name)
    if old == new:
        return
    if old is None or new is None:
        if new is None:
            return
        raise UsageError(f"steps.{name}: was not measured; run `python -m data_prep input=…` again with this step")
    (key, *_) = [each for each in new if not isinstance(old, dict) or old.get(each) != new[each]]
    raise UsageError(
        f"steps.{name}.{key}: {new[key]!r} changes what is measured (it was {old[key]!r}), so thresholds alone "
        "will not do; run `python -m data_prep input=…` again"
    )

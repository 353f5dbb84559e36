"""Items of an evaluation that stand in the training data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.overlap import overlap
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`contaminated.jsonl`: the items, each with the training row that holds it; `overlap.json`: the numbers."""
    training = {label.removeprefix("training."): path for label, path in inputs.items() if label != "evaluation"}
    settings = Decontamination.model_validate(config["settings"])
    found = overlap(training, {config["dataset"]: inputs["evaluation"]}, settings, track)
    found.write(out)
    return {"items": found.numbers[config["dataset"]]["items"], "contaminated": len(found.contaminated)}

"""Of a folder of predictions, those that one call is about.

The folder keeps what earlier calls predicted, of another model too: a call that asks for fewer measures must not show
the numbers of those.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data_prep.rows import write_whole
from eval.predictions import MEASURES, POLICIES, Measure, predictions_path, read_policies

_OF_ANSWERS = ("rouge", "bleu", "chrf", "stop")


def measures_of(took: Mapping[str, Any]) -> set[Measure]:
    """The measures that a prediction has told the numbers of (`eval.predict.predict`)."""
    return {measure for measure in MEASURES if f"{measure}_rows" in took}


def view_of(folder: Path, dataset: str, measures: Collection[Measure], out: Path) -> Path:
    """Make `out` a predictions folder that holds just these measures of one data set, by links; returns it."""
    out.mkdir(parents=True)
    for measure in measures:
        predictions_path(out, dataset, measure).symlink_to(predictions_path(folder, dataset, measure).absolute())
    other = {*MEASURES, *(() if "generation" in measures else _OF_ANSWERS)} - {*measures}
    told = {name: value for name, value in read_policies(folder)[dataset].items() if name not in other}
    write_whole(out / POLICIES, json.dumps({dataset: told}).encode())
    return out

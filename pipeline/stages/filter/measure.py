"""Measure data sets: everything about their rows that a filter may look at."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_prep.curation.config import CurationSteps
from data_prep.curation.measure import measure
from data_prep.engines.config import Engine
from data_prep.errors import DataError
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """A measured job, see `data_prep.curation.job`."""
    steps = CurationSteps.model_validate_json(json.dumps(config["steps"]))  # its keys became text
    engine = TypeAdapter[Any](Engine).validate_python(config["engine"])
    name = config["dataset"]
    against = {each: inputs[f"against.{each}"] for each in config["against"]}
    try:
        # What was finished before a kill is found again among the checkpoints.
        job = measure({name: inputs[name]}, steps, out / "checkpoints", engine, against, track)
    except DataError as error:  # data_prep names the keys of a stage called filter; this one may be called otherwise
        raise DataError(str(error).replace("stages.filter.", f"stages.{config['stage']}.")) from error
    for path in job.folder.iterdir():
        path.rename(out / path.name)
    return {"rows": job.rows_of(name)}

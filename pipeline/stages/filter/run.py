"""Curate data sets: the rows that are kept, the ledger of every row, and the funnel."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_prep.curation.config import CurationSteps
from data_prep.curation.decide import decide
from data_prep.curation.job import Job
from data_prep.curation.self_test.apply import self_test_of
from data_prep.engines.config import Engine
from data_prep.errors import DataError
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """A dataset folder per data set, `ledger.parquet`, `funnel.json` and `what_if.json`."""
    steps = CurationSteps.model_validate_json(json.dumps(config["steps"]))  # its keys became text
    engine = TypeAdapter[Any](Engine).validate_python(config["engine"])
    try:
        funnel = decide(Job.load(inputs["measured"]), steps, out, engine, track, out / "checkpoints")["funnel"]
    except DataError as error:  # data_prep names the keys of a stage called filter; this one may be called otherwise
        raise DataError(str(error).replace("stages.filter.", f"stages.{config['stage']}.")) from error
    if config["self_test"]:
        against = {
            label.removeprefix("against."): path for label, path in inputs.items() if label.startswith("against.")
        }
        self_test_of(config["dataset"], inputs[config["dataset"]], steps, against, out)
    if config["key_check"]:
        (out / "key_check").write_text(config["key_check"], encoding="utf-8")
    counts = funnel[config["dataset"]]
    return {"rows_in": counts[0]["rows"], "rows_kept": counts[-1]["rows"]}

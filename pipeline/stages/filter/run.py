"""Curate data sets: the rows that are kept, the ledger of every row, and the funnel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.curate import curate
from data_prep.errors import DataError
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """A dataset folder per data set, `ledger.parquet` and `funnel.json`."""
    steps = CurationSteps.model_validate(config["steps"])
    try:
        funnel = curate(dict(inputs), steps, out, track)["funnel"]
    except DataError as error:  # data_prep names the keys of a stage called filter; this one may be called otherwise
        raise DataError(str(error).replace("stages.filter.", f"stages.{config['stage']}.")) from error
    metrics: dict[str, float] = {}
    for name in config["datasets"]:
        counts = funnel[name]
        metrics[f"{name}.rows_in"], metrics[f"{name}.rows_kept"] = counts[0]["rows"], counts[-1]["rows"]
    return metrics

"""Two runs' tuned models on the same rows: the paired difference, from their stored predictions."""

from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from pipeline.errors import ProvetuneError
from pipeline.recorded import RecordedRun, read_run
from pipeline.report.comparison.entry import Entry


def paired(base: Entry, other: Entry, task: str, metric: str) -> dict[str, Any] | str:
    """`{base, tuned, difference, low, high, p, n, verdict …}` of `other` against `base`, or why there is none."""
    dataset = task.partition("/")[2]
    try:
        folders = [_predictions(read_run(Path(entry.folder)), entry.tuned, dataset) for entry in (base, other)]
        if None in folders:
            return "no stored predictions"
        from eval.compare import compare
        from eval.config import StatisticsConfig

        cells = compare(*folders, _statistics(base, StatisticsConfig))  # type: ignore[arg-type]
    except (ProvetuneError, DataError, OSError, ValueError, KeyError) as error:
        return str(error)
    return cells.get(task, {}).get(metric) or "not among the stored predictions"


def _statistics(entry: Entry, config: Any) -> Any:
    """The statistics settings of the run's evaluation."""
    key = ".statistics."
    found = {name.partition(key)[2]: value for name, value in entry.settings.items() if key in name}
    return config(**{name: value for name, value in found.items() if name in config.model_fields})


def _predictions(run: RecordedRun, model: str, dataset: str) -> Path | None:
    """The folder with a model's predictions of a data set: the last such node of the run."""
    for node in reversed(run.of_kind("evaluate.predict")):
        parts = node.name.split("/")
        has_rows = any(node.folder.glob(f"{dataset}.*.jsonl"))
        if len(parts) > 1 and parts[1] == model and has_rows and (len(parts) == 2 or parts[2] == dataset):
            return node.folder
    return None

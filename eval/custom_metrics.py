"""Metrics of the user's own: any Python function, and any metric of the `evaluate` library."""

import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from eval.predictions import Prediction
from eval.tasks import Task, mean_metric

Score = Callable[[str, str], object]
_EVALUATE = "evaluate"
_LARGEST = 1e100
"""Larger values could not be summed or squared over rows."""


def source_file(name: str) -> Path | None:
    """The file behind a metric, found without running it; None for a metric of the Hub. DataError where it is not."""
    place, _, inside = name.partition(":")
    if place == _EVALUATE:
        script = Path(inside).expanduser()
        script = script / f"{script.name}.py" if script.is_dir() else script
        return script if script.is_file() else None
    file = Path(place).expanduser() if place.endswith(".py") else _module_file(place, name)
    if not file.is_file():
        raise DataError(f"metric {name}: {file} does not exist; write file.py:function or package.module:function")
    return file


def custom_task(name: str, dataset: str, predictions: list[Prediction]) -> Task:
    """A task of a metric that is none of ours. A function gives its own name to its metric; where it carries an
    attribute `lower_is_better` that is true, less is better. DataError where it cannot be had or gives no number."""
    place, _, inside = name.partition(":")
    if place == _EVALUATE:
        return _evaluate_task(inside, dataset, predictions)
    function = _function(name, place, inside)
    values = [_number(name, row["id"], _called(name, function, row)) for row in predictions]
    metric = mean_metric(inside, 0, lower=bool(getattr(function, "lower_is_better", False)))
    return Task(f"{inside}/{dataset}", np.array([[value, 1.0] for value in values]), [metric])


def _function(name: str, place: str, inside: str) -> Score:
    file = source_file(name)
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(f"provetune_metric_{Path(place).stem}", str(file))
            assert spec is not None and spec.loader is not None, "a .py file has a loader"
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except Exception as error:  # whatever the user's own code does when it is imported
        raise DataError(f"metric {name}: cannot be imported ({_told(error)}); correct the file") from error
    function = getattr(module, inside, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if inspect.isfunction(value) and each[0] != "_"]
        raise DataError(f"metric {name}: {place} has no function {inside}; it has {', '.join(known) or 'none'}")
    return function


def _called(name: str, function: Score, row: Prediction) -> object:
    try:
        return function(row["output"], row["reference"])
    except Exception as error:  # the user's own code
        raise DataError(
            f"metric {name}: failed on row {row['id']} ({_told(error)}); it is called with output and reference and "
            "returns a number"
        ) from error


def _number(name: str, row: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, Real | np.number) else math.nan
    except OverflowError:  # an integer beyond every float
        number = math.inf
    if not abs(number) <= _LARGEST:
        raise DataError(
            f"metric {name}: gave {repr(value)[:80]} for row {row}; "
            f"it must return a finite number (at most {_LARGEST:g})"
        )
    return number


def _told(error: Exception) -> str:
    """One short line, whatever the user's own code wrote."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _evaluate_task(place: str, dataset: str, predictions: list[Prediction]) -> Task:
    """Every number that the metric gives, row by row, so that models can be compared; the value over all rows together
    is shown where it is another one (BLEU is no mean of rows)."""
    metric, name = _loaded(place), f"evaluate:{place}"
    by_row = [_computed(name, metric, [row]) for row in predictions]
    names = sorted(set.intersection(*(set(row) for row in by_row)))
    if not names:
        raise DataError(f"metric {name}: gives no number for single rows; use another metric")
    rows = np.array([[*(_number(name, str(n), row[each]) for each in names), 1.0] for n, row in enumerate(by_row)])
    together = _computed(name, metric, predictions)
    means = rows.mean(axis=0)
    shown = {
        f"{each}_of_all_rows": together[each]
        for each, mean in zip(names, means, strict=False)
        if each in together and not math.isclose(together[each], mean, rel_tol=1e-9, abs_tol=1e-12)
    }
    stem = Path(place).stem
    return Task(f"{stem}/{dataset}", rows, [mean_metric(each, at) for at, each in enumerate(names)], shown)


def _loaded(place: str) -> Any:
    try:
        import evaluate
    except ImportError as error:
        raise DataError(f"metric evaluate:{place}: the library is missing; pip install evaluate") from error
    try:
        return evaluate.load(place)
    except Exception as error:  # not found, offline, a missing dependency of the script
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"metric evaluate:{place}: cannot be loaded ({reason}); give the path of a script, or a Hub id while online"
        ) from error


def _computed(name: str, metric: Any, rows: list[Prediction]) -> dict[str, float]:
    try:
        found: Mapping[str, Any] = metric.compute(
            predictions=[row["output"] for row in rows], references=[row["reference"] for row in rows]
        )
    except Exception as error:  # whatever the script does with texts that it does not expect
        raise DataError(f"metric {name}: failed on row {rows[0]['id']} ({_told(error)})") from error
    return {
        each: float(value) for each, value in found.items() if isinstance(value, Real) and not isinstance(value, bool)
    }


def _module_file(module: str, name: str) -> Path:
    """The file of a module; only the packages above it are looked up, no code of it runs."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise DataError(f"metric {name}: there is no module {first}; install it, or write file.py:function")
    if not rest and spec.origin is not None:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or []:
        path = Path(folder).joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return Path(*module.split(".")).with_suffix(".py")

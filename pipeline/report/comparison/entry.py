"""What a comparison needs to know of one run, taken from its report.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.report.load import ReportError
from pipeline.report.metrics import lower_is_better
from pipeline.report.safe_text import visible
from pipeline.report.schema import SCHEMA_VERSION

_PLACES = ("outputs", "run_id", "mode", "experiment", "lock_wait", "launch", "push_to_hub", "tracking", "energy")
"""Settings that say where a run went, not what it was."""
_ALIKE = ("perplexity", "generation", "template_sha256", "rouge", "bleu", "chrf", "stop")
"""Policies that have to be equal before two numbers can be compared."""


@dataclass(frozen=True)
class Entry:
    """One run in a comparison."""

    folder: str
    id: str
    status: str
    started: str
    tuned: str
    """Name of the model that the run ends with."""
    headline: tuple[str, str] | None
    """(task, metric) of the run's own verdict."""
    scores: Mapping[str, Mapping[str, float]]
    """Task → metric → value of the tuned model."""
    gains: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Task → metric → the run's own comparison with its base model."""
    ground: Mapping[str, Mapping[str, Any]]
    """Data set → what its numbers stand on: rows, template, decoding, scoring."""
    settings: Mapping[str, Any]
    """The resolved configuration with dotted keys."""
    costs: Mapping[str, float]
    """`seconds` and `memory` of training, `energy` where it is known."""
    trained: Mapping[str, float]
    """Of a run that pretrains: the `parameters` that a token meets, and the `tokens` it was trained on."""

    def score(self, task: str, metric: str) -> float | None:
        """One number of the tuned model."""
        value = self.scores.get(task, {}).get(metric)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for the index."""
        return asdict(self)


def entry_from_json(value: Mapping[str, Any]) -> Entry:
    """The inverse of `Entry.as_json`."""
    headline = value["headline"]
    return Entry(**{**value, "headline": tuple(headline) if headline else None})


def entry_of(report: Any, folder: Path) -> Entry:
    """Read one report.json. Raises ReportError when it is none of ours or from a newer version."""
    name = visible(str(folder / "report.json"))
    if not isinstance(report, Mapping) or not isinstance(report.get("run"), Mapping) or "schema_version" not in report:
        raise ReportError(f"{name}: no report of a Provetune run (needs the keys schema_version and run)")
    version = report["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ReportError(f"{name}: schema_version {version} is newer than this Provetune reads ({SCHEMA_VERSION})")
    try:
        return _entry(report, folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{name}: damaged ({type(error).__name__}: {error}); make the run again") from None


def _entry(report: Mapping[str, Any], folder: Path) -> Entry:
    evaluation, run = report.get("evaluation") or {}, report["run"]
    verdict, comparisons = report.get("verdict") or {}, evaluation.get("comparisons") or {}
    name = verdict.get("comparison") or next(reversed(comparisons), "")
    tuned = name.partition("_vs_")[0]
    headline = (verdict["task"], verdict["metric"]) if verdict.get("task") and verdict.get("metric") else None
    return Entry(
        folder=str(folder),
        id=visible(str(run.get("id") or folder.name)),
        status="failed" if run.get("failed") else str(run.get("status") or ""),
        started=str(run.get("started") or ""),
        tuned=tuned,
        headline=headline,
        scores=(evaluation.get("models") or {}).get(tuned) or {},
        gains=comparisons.get(name) or {},
        ground=_ground(report, evaluation.get("policies") or {}),
        settings=_settings(report.get("config") or {}),
        costs=_costs(report.get("stages") or []),
        trained=_trained(report.get("stages") or []),
    )


def _ground(report: Mapping[str, Any], policies: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    data = report.get("data") or {}
    return {
        dataset: {
            "test rows": ((data.get(dataset) or {}).get("split_sha256") or {}).get("test"),
            **{name: told.get(name) for name in _ALIKE},
        }
        for dataset, told in sorted(policies.items())
    }


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in _PLACES:
            continue
        if isinstance(value, Mapping):
            found |= _settings(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _costs(stages: list[Mapping[str, Any]]) -> dict[str, float]:
    training = [stage for stage in stages if str(stage.get("name") or "").endswith("/train")] or stages
    costs: dict[str, float] = {}
    if seconds := [stage["seconds"] for stage in training if stage.get("seconds") is not None]:
        costs["seconds"] = float(sum(seconds))
    if memory := [stage["peak_memory_bytes"] for stage in training if stage.get("peak_memory_bytes") is not None]:
        costs["memory"] = float(max(memory))
    energy = [(stage.get("energy") or {}).get("kwh") for stage in training]
    if energy and all(isinstance(each, int | float) for each in energy):
        costs["energy"] = float(sum(each for each in energy if each))
    return costs


def _trained(stages: list[Mapping[str, Any]]) -> dict[str, float]:
    """Size and tokens of the newest pretraining; empty without one."""
    for stage in reversed(stages):
        parameters = (stage.get("metrics") or {}).get("trainable_parameters")
        if stage.get("kind") == "pretrain.train" and parameters and stage.get("tokens"):
            return {"parameters": float(parameters), "tokens": float(stage["tokens"])}
    return {}


def refuse_unlike(entries: list[Entry]) -> None:
    """Raise ReportError with the first difference of what two runs' numbers stand on."""
    first = entries[0]
    for other in entries[1:]:
        if first.ground.keys() != other.ground.keys():
            raise _unlike(first, other, "data sets", ", ".join(first.ground), ", ".join(other.ground))
        for dataset, told in first.ground.items():
            for name, value in told.items():
                if value != other.ground[dataset].get(name):
                    raise _unlike(first, other, f"{dataset}: {name}", value, other.ground[dataset].get(name))


def _unlike(first: Entry, other: Entry, what: str, one: Any, two: Any) -> ReportError:
    shown = [visible(str(value))[:120] if value else "nothing" for value in (one, two)]
    return ReportError(
        f"{first.id} and {other.id} cannot be compared, they were not evaluated alike; {visible(what)}: "
        f"{shown[0]} in the one, {shown[1]} in the other; evaluate both with the same data, template and settings"
    )


def ranked(entries: list[Entry], task: str, metric: str) -> list[Entry]:
    """The entries that have the metric, the best first."""
    scored = [(value, entry) for entry in entries if (value := entry.score(task, metric)) is not None]
    sign = 1 if lower_is_better(metric) else -1
    return [entry for _, entry in sorted(scored, key=lambda pair: (sign * pair[0], pair[1].id))]


def varying(entries: list[Entry]) -> dict[str, list[Any]]:
    """The settings that differ between the runs, each with its value per run."""
    keys = dict.fromkeys(key for entry in entries for key in entry.settings)
    columns = {key: [entry.settings.get(key) for entry in entries] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values[1:])}

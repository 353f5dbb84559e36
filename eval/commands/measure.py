"""Measure one model or two: a table, and `results.json` in the shape of a report's evaluation."""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.commands.show import terminal_track
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.progress import about
from data_prep.rows import write_whole
from eval.commands.config import EvalConfig
from eval.commands.table import show
from eval.commands.view import measures_of, view_of
from eval.compare import compare, summarise
from eval.cost import peak_memory, with_cost
from eval.energy import EnergyMeter
from eval.predictions import read_policies

RESULTS = "results.json"


def measure(config: EvalConfig) -> dict[str, Any]:
    """Run what is asked for; returns what `results.json` holds: models, comparisons, policies."""
    sides = {"model": config.model} | ({"base": config.base} if config.base else {})
    if config.into is not None:
        _report(Path(config.into).expanduser())  # refused before anything is computed
    if config.against == "lm_eval":
        from eval.commands.lm_eval import measure_by_lm_eval

        found = measure_by_lm_eval(config, sides, names_of(config))
    else:
        found = _measured(config, sides)
    out = Path(config.output).expanduser()
    write_whole(out / RESULTS, (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode())
    if config.into is not None:
        _add_to_report(found, Path(config.into).expanduser())
    show(found, out / RESULTS)
    return found


def names_of(config: EvalConfig) -> dict[str, str]:
    """What each side is called in the results: its path or id and its adapters, never one name for both sides."""
    name = " + ".join([config.model, *config.adapters])
    if config.base is None:
        return {"model": name}
    return {"model": name, "base": config.base if config.base != name else f"{config.base} (base)"}


def load_side(config: EvalConfig, side: str, name: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or Hub id; the adapters belong to `model`."""
    from eval.loading import load_model

    adapters = [Path(each).expanduser() for each in config.adapters] if side == "model" else []
    return load_model(_folder(name), adapters, config.dtype, trust_remote_code=config.trust_remote_code)


def _report(run: Path) -> dict[str, Any]:
    """The report of a run; DataError where it is none."""
    file = run / "report.json"
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return {**report, "evaluation": {**report["evaluation"]}}
    except FileNotFoundError:
        raise DataError(
            f"into: {file} is missing; give the folder of a finished run, such as outputs/runs/latest"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"into: {file} is no report ({error}); give the folder of a finished run") from error


def _add_to_report(found: Mapping[str, Any], run: Path) -> None:
    """Add the numbers to a run's report; the headline stays the run's.

    A model is called by the shortest end of its path that no other model of the report has; `added` remembers which
    one that was, so that numbers of two models never meet under one name.
    """
    report = _report(run)
    evaluation = report["evaluation"]
    models, added = evaluation.setdefault("models", {}), evaluation.setdefault("added", {})
    for name, tasks in found["models"].items():
        shown = added.setdefault(name, _free_name(name, models))
        models[shown] = {**models.get(shown, {}), **tasks}
    comparisons = evaluation.setdefault("comparisons", {})
    for tasks in found["comparisons"].values():
        name = "_vs_".join(added[each] for each in found["models"])
        comparisons[name] = {**comparisons.get(name, {}), **tasks}
    evaluation["policies"] = {**evaluation.get("policies", {}), **found["policies"]}
    write_whole(run / "report.json", (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())


def _free_name(name: str, taken: Container[str]) -> str:
    parts = [part for part in name.split("/") if part]
    ends = ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    return next((end for end in ends if end not in taken), f"{name} (measured apart)")


def _measured(config: EvalConfig, sides: Mapping[str, str]) -> dict[str, Any]:
    out = Path(config.output).expanduser()
    for name in config.tasks:
        dataset = config.data[name].model_copy(update={"role": "eval"})
        tokenizer = _folder(config.model) / "tokenizer.json" if dataset.lead is not None else None
        load(name, dataset, out / "data" / name, tokenizer, terminal_track)
    costs: dict[str, Any] = {}
    with EnergyMeter(config.energy) as meter:
        for side, name in sides.items():
            meter.begin()
            tasks = _predict(config, side, name, out)
            costs[side] = {"tasks": tasks, "energy": meter.end(), "peak_memory_bytes": peak_memory()}
    names = names_of(config)
    return {**_numbers(config, out, costs), "costs": {names[side]: told for side, told in costs.items()}}


def _numbers(config: EvalConfig, out: Path, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Models, comparisons and policies, from what this call predicted or found of the same model."""
    names = names_of(config)
    models: dict[str, Any] = {side: {} for side in names}
    comparisons: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    with TemporaryDirectory() as place:
        for task in config.tasks:
            folders = {
                side: view_of(out / side / task, task, measures_of(costs[side]["tasks"][task]), Path(place, side, task))
                for side in names
            }
            for side, folder in folders.items():
                models[side] |= summarise(folder, config.metrics)
            if "base" in folders:
                comparisons |= compare(folders["base"], folders["model"], config.statistics, config.metrics)
            policies |= read_policies(folders["model"])
    told = {name: {key: value for key, value in each.items() if key != "keys"} for name, each in policies.items()}
    return {
        "models": {names[side]: values for side, values in models.items()},
        "comparisons": {"model_vs_base": comparisons} if comparisons else {},
        "policies": told,
    }


def _predict(config: EvalConfig, side: str, name: str, out: Path) -> dict[str, dict[str, float]]:
    """Everything that needs one of the models; it leaves memory before the other one is loaded. Returns what each task
    took: `eval.cost.with_cost`."""
    from eval.benchmarks import predict_task
    from eval.predict import predict

    model, tokenizer = load_side(config, side, name)
    took = {}
    for task in config.tasks:
        rows, folder, track = out / "data" / task, out / side / task, about(terminal_track, f"{side}, {task}")
        folder.mkdir(parents=True, exist_ok=True)
        if task in config.settings:
            asked = config.settings[task]
            took[task] = with_cost(model, predict_task(model, tokenizer, rows, task, folder, asked, track))
            continue
        generation = config.generation and config.generation.of_model(side)
        scoring = config.perplexity, generation, config.template
        found = predict(model, tokenizer, rows, task, folder, *scoring, track)
        took[task] = with_cost(model, found)
    return took


def _folder(name: str) -> Path:
    """The folder of a model; a Hub id is fetched, or found among what was fetched before."""
    folder = Path(name).expanduser()
    if folder.exists() or "/" not in name or name.startswith((".", "/", "~")):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # no network, no such id, a gated model, offline mode: each has its own class
        raise DataError(
            f"model {name}: neither a folder nor to be had from the Hub ({type(error).__name__}); check the path or id"
        ) from error

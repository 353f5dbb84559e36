"""Tasks of lm-evaluation-harness, run by itself on our model, and compared with our statistics.

The harness aggregates its own values (`models`); with a base, the values that it keeps for each document are paired and
tested as ours are (`comparisons`): metrics that are a number per document, such as acc, acc_norm and exact_match.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from data_prep.errors import DataError
from eval.commands.config import EvalConfig
from eval.compare import compare_tasks
from eval.tasks import Task, mean_metric

EXTRA = "lm_eval"
_PARTS = ("evaluator", "models.huggingface", "tasks")
_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score", "wer"}


def measure_by_lm_eval(config: EvalConfig, sides: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    """Models, comparisons and policies as `eval.commands.measure` writes them; `names` is what each side is called.
    DataError where the harness is missing or does not know a task."""
    results = {side: _run(config, side, name) for side, name in sides.items()}
    models = {names[side]: _values(found["results"]) for side, found in results.items()}
    comparisons: dict[str, Any] = {}
    if "base" in results:
        base, tuned = (_tasks(results[side]["samples"]) for side in ("base", "model"))
        comparisons = {"model_vs_base": compare_tasks(base, tuned, config.statistics)}
    shots, chat = results["model"]["n-shot"], ", chat template" if config.template == "chat" else ""
    policies = {
        name: {"lm_eval": f"lm-evaluation-harness {_version()}, task version {version}, {shots.get(name)} shots{chat}"}
        for name, version in results["model"]["versions"].items()
    }
    return {"models": models, "comparisons": comparisons, "policies": policies}


def _run(config: EvalConfig, side: str, name: str) -> dict[str, Any]:
    try:
        evaluator, huggingface, known = (import_module(f"lm_eval.{part}") for part in _PARTS)
    except ImportError as error:
        raise DataError(
            f"against=lm_eval: lm-evaluation-harness is missing ({error}); pip install 'provetune[{EXTRA}]'"
        ) from error
    from eval.commands.measure import load_side

    manager = known.TaskManager(include_path=config.include)
    unknown = [task for task in config.tasks if task not in manager.all_tasks]
    if unknown:
        raise DataError(f"tasks: {unknown[0]}: not a task of lm-evaluation-harness; `lm_eval ls tasks` lists them")
    model, tokenizer = load_side(config, side, name)
    size = config.perplexity.batch_size if config.perplexity else 8
    harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, device=model.device.type)
    try:
        found = evaluator.simple_evaluate(
            harness,
            tasks=list(config.tasks),
            limit=config.limit,
            log_samples=True,
            task_manager=manager,
            apply_chat_template=config.template == "chat",
            bootstrap_iters=0,
            random_seed=config.statistics.seed,
        )
    except Exception as error:  # a task's data set that is not there, a scorer that needs another package …
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"against=lm_eval: {type(error).__name__}: {reason}") from error
    if found is None:
        raise DataError("against=lm_eval: gave no results; run it in one process")
    return dict(found)


def _values(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """`lm_eval/<task>` → metric → value; the harness writes `acc,none`, the filter behind the comma."""
    return {
        f"{EXTRA}/{task}": {
            metric.removesuffix(",none"): float(value)
            for metric, value in values.items()
            if isinstance(value, int | float) and "_stderr" not in metric and metric != "sample_len"
        }
        for task, values in results.items()
    }


def _tasks(samples: Mapping[str, list[dict[str, Any]]]) -> list[Task]:
    """What the harness keeps for each document, one task for each of its filters."""
    tasks = []
    for name, rows in sorted(samples.items()):
        for kept in sorted({row.get("filter", "none") for row in rows}):
            chosen = sorted((row for row in rows if row.get("filter", "none") == kept), key=lambda row: row["doc_id"])
            metrics = [each for each in chosen[0]["metrics"] if all(_is_number(row.get(each)) for row in chosen)]
            if not metrics:
                continue
            columns = np.array([[*(float(row[each]) for each in metrics), 1.0] for row in chosen])
            binary = [bool(np.isin(columns[:, at], (0.0, 1.0)).all()) for at in range(len(metrics))]
            found = [mean_metric(each, at, binary[at], each in _LOWER) for at, each in enumerate(metrics)]
            suffix = "" if kept == "none" else f",{kept}"
            tasks.append(Task(f"{EXTRA}/{name}{suffix}", columns, found))
    return tasks


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")

"""The words around the verdict: what was tuned on what, what a failed run should do next."""

from typing import Any

from pipeline.report.formatting import count, duration, number, percent
from pipeline.report.schema import Report, Training

_METHODS = {
    "pretrain": "continued pretraining",
    "sft": "supervised fine-tuning",
    "dpo": "preference tuning (DPO)",
    "kto": "preference tuning (KTO)",
    "orpo": "preference tuning (ORPO)",
}
_ADAPTERS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA"}


def stage_config(report: Report, name: str) -> dict[str, Any]:
    """The resolved configuration of a stage, empty when unknown."""
    stages = report.config.get("stages")
    config = stages.get(name) if isinstance(stages, dict) else None
    return config if isinstance(config, dict) else {}


def model_name(report: Report) -> str:
    """What the base model is called."""
    return (report.model.name if report.model else None) or "the base model"


def tuned_on(report: Report) -> str:
    """One sentence: which model, how, on how many rows of what, how long. Empty when nothing is known."""
    steps = [_training_step(report, name, training) for name, training in report.training.items()]
    if report.model is None and not steps:
        return ""
    subject = f"{model_name(report)}{_model_facts(report)}"
    end = f", in {duration(report.run.seconds)}" if report.run.seconds is not None else ""
    machine = _machine(report)
    end += f" on {machine}" if machine and end else ""
    if not steps:
        return f"{subject}; nothing was trained{end}."
    return f"{subject}: {', then '.join(steps)}{end}."


def _model_facts(report: Report) -> str:
    model = report.model
    facts = [model.architecture, f"{count(model.parameters)} parameters" if model.parameters else None] if model else []
    known = [fact for fact in facts if fact]
    return f" ({', '.join(known)})" if known else ""


def _training_step(report: Report, name: str, training: Training) -> str:
    config = stage_config(report, name)
    kind = str(config.get("kind") or name)
    adapter = training.adapter or {}
    adapter_kind = str(adapter.get("kind") or "")
    method = _METHODS.get(kind, kind)
    if adapter_kind:
        rank = f", rank {adapter['r']}" if adapter.get("r") is not None else ""
        method += f" with {_ADAPTERS.get(adapter_kind, adapter_kind)}{rank}{_trainable_share(report, training)}"
    rows, seen = training.audit.rows if training.audit else None, training.rows_seen
    where = _dataset(report, config)
    if rows is not None:
        some = f"{number(seen)} of {number(rows)}" if seen is not None and seen < rows else number(rows)
        method += f" on {some} rows" + (f" of {where}" if where else "")
    elif where:
        method += f" on {where}"
    steps = max((step.step for step in training.steps), default=0)
    return method + (f", {number(steps)} step{'s' if steps != 1 else ''}" if steps else "")


def methods(report: Report) -> list[str]:
    """The kinds of training as tags: `sft`, `lora`."""
    kinds = [str(stage_config(report, name).get("kind") or name) for name in report.training]
    adapters = [str((training.adapter or {}).get("kind") or "") for training in report.training.values()]
    return [tag for tag in dict.fromkeys([*kinds, *adapters]) if tag and tag != "none"]


def _trainable_share(report: Report, training: Training) -> str:
    total = report.model.parameters if report.model else None
    if not total or not training.trainable_parameters:
        return ""
    return f", {percent(training.trainable_parameters / total)} of the weights"


def _dataset(report: Report, config: dict[str, Any]) -> str:
    name = config.get("dataset")
    if isinstance(name, str):
        return name
    return next(iter(report.data)) if len(report.data) == 1 else ""


def _machine(report: Report) -> str:
    environment = report.environment
    if environment is None:
        return ""
    if environment.gpus:
        first = environment.gpus[0]
        name = first.get("name") if isinstance(first, dict) else first
        return f"{len(environment.gpus)} × {name}"
    return f"{environment.cores} CPU core{'s' if environment.cores != 1 else ''}" if environment.cores else ""


def next_steps(report: Report) -> list[str]:
    """What to do after a failed run."""
    failed = report.run.failed
    steps = [f"Read the end of the log: {failed.log}"] if failed and failed.log else []
    steps.append(
        "Fix the cause that the message names (a changed setting starts only the stages that depend on it anew)."
    )
    again = f": {report.run.command}" if report.run.command else ""
    steps.append(
        f"Start the same command again{again}. Finished stages come from the cache; "
        "training continues from its last checkpoint."
    )
    return steps


def not_measured(report: Report) -> str:
    """Why a finished run has no verdict."""
    if not report.evaluation.models:
        return (
            "This run evaluated nothing. Add an evaluate stage that compares base and tuned "
            "to know whether the training helped."
        )
    return (
        "This run scored models but compared none. Name two models under the evaluate stage's compare to get a verdict."
    )

"""The Hugging Face model card of a run's tuned model: metadata, evaluation results, data, limits; from report.json.

Metadata follows the Hub's model card specification (`model-index` holds the evaluation results).
"""

import re

from huggingface_hub import EvalResult, ModelCardData

from pipeline.report import results, safe_text, sections, story
from pipeline.report.metrics import label
from pipeline.report.render import environment
from pipeline.report.schema import Report, Stage

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_MOST_REGRESSIONS = 8


def trained_stage(report: Report) -> Stage | None:
    """The last finished training stage: its artifact holds the model that the card is about."""
    done = [stage for stage in report.stages if stage.name.endswith("/train") and stage.outcome != "failed"]
    return done[-1] if done else None


def card(report: Report, is_adapter: bool) -> str:
    """README.md of the model folder."""
    made = environment(autoescape=False, finalize=safe_text.markdown)
    made.filters["fenced"] = safe_text.fenced
    body = made.get_template("card.md.j2").render(
        report=report,
        name=_name(report),
        usage=_usage(report, is_adapter),
        limits=limits(report),
        metric_rows=results.metric_rows(report),
        confidence=results.confidence(report),
        tuned_on=story.tuned_on(report),
        model_name=story.model_name(report),
        not_measured=story.not_measured(report),
        sections=sections,
    )
    return f"---\n{_metadata(report, is_adapter).to_yaml()}\n---\n\n{body.rstrip()}\n"


def _name(report: Report) -> str:
    return safe_text.one_line(f"{story.model_name(report).rsplit('/', 1)[-1]}-{report.run.experiment or 'tuned'}")


def _metadata(report: Report, is_adapter: bool) -> ModelCardData:
    """The YAML block; the base model and data sets are named only where the Hub can know them."""
    base = (report.model.source if report.model else None) or ""
    datasets = [data.source for data in report.data.values() if data.source and _HUB_ID.match(data.source)]
    evaluated = _eval_results(report)
    return ModelCardData(
        base_model=base if _HUB_ID.match(base) else None,
        library_name="peft" if is_adapter else "transformers",
        license="unknown",
        pipeline_tag="text-generation",
        tags=["provetune", *story.methods(report)],
        datasets=datasets or None,
        model_name=_name(report) if evaluated else None,
        eval_results=evaluated or None,
        ignore_metadata_errors=True,
    )


def _eval_results(report: Report) -> list[EvalResult]:
    """One entry per task and metric of the tuned model."""
    name = next(reversed(report.evaluation.comparisons), "")
    scores = report.evaluation.models.get(name.partition("_vs_")[0], {})
    found = []
    for task, metrics in scores.items():
        measure, _, dataset = task.partition("/")
        source = report.data[dataset].source if dataset in report.data else None
        for metric, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.append(
                    EvalResult(
                        task_type="text-generation",
                        dataset_type=source if source and _HUB_ID.match(source) else dataset or "unknown",
                        dataset_name=dataset or "unknown",
                        dataset_split="test",
                        metric_type=metric,
                        metric_name=f"{label(metric)} ({measure})",
                        metric_value=value,
                    )
                )
    return found


def _usage(report: Report, is_adapter: bool) -> str:
    """Code that loads the model from this folder."""
    source = (report.model.source if report.model else None) or ""
    base = source if _HUB_ID.match(source) else "FOLDER_OF_THE_BASE_MODEL"
    if is_adapter:
        return (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({base!r})\n"
            'model = PeftModel.from_pretrained(base, ".")\n'
            'tokenizer = AutoTokenizer.from_pretrained(".")'
        )
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")'
    )


def limits(report: Report) -> list[str]:
    """What the measurements do not show, and what they show that is bad."""
    rows = [row for each in results.metric_rows(report).values() for row in each]
    worse = [row for row in rows if row.tone == "worse"]
    unsure = sum(row.tone == "unsure" for row in rows)
    told = [
        f"Worse than the base model: {row.label} on {row.task}, {row.difference} ({row.interval})."
        for row in worse[:_MOST_REGRESSIONS]
    ]
    if unsure:
        told.append(f"{unsure} of {len(rows)} metrics could not be told from no change.")
    if not rows:
        told.append("The model was not compared with its base: nothing is known about whether the training helped.")
    tasks = sorted({row.task for row in rows})
    if tasks:
        told.append(f"Measured on {', '.join(tasks)} only; other tasks and languages were not looked at.")
    told.append("Safety, bias and factuality were measured only where a table above names them.")
    return told + [f"Warning of the run: {warning}" for warning in report.warnings]

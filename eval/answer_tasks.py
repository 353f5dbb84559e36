"""Metrics of generated answers as tasks: of the text alone, from stored predictions, so they can be changed afterwards.

A metric is a name of `METRICS`, a function of your own (`package.module:function` or `file.py:function`, called with
output and reference, returns a number), or `evaluate:NAME`, a metric of the `evaluate` library by the path of its
script or by its Hub id.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data_prep.errors import DataError
from eval.measures import text
from eval.measures.answers import exact_match, extract_number, normalise, token_f1
from eval.measures.repetition import variety
from eval.predictions import Prediction
from eval.tasks import Metric, Task, label_columns, macro_f1_metric, mean_metric

DEFAULT_METRICS = ("rouge", "bleu")
TOXIC = 0.6
"""The score above which an answer counts as toxic: the limit at which the filter's classifier was measured."""


def answer_tasks(dataset: str, predictions: list[Prediction], metrics: Sequence[str] = ()) -> list[Task]:
    """The tasks of the named metrics, in that order, and always how varied the answers are (shown, not tested)."""
    tasks = []
    for name in metrics or DEFAULT_METRICS:
        if name in METRICS:
            tasks.append(METRICS[name](dataset, predictions))
        else:
            from eval.custom_metrics import custom_task

            tasks.append(custom_task(name, dataset, predictions))
    outputs, _ = _texts(predictions)
    tasks.append(Task(f"variety/{dataset}", np.ones((len(predictions), 1)), [], _finite(variety(outputs))))
    return tasks


def _rouge(dataset: str, predictions: list[Prediction]) -> Task:
    scores = text.score_texts(*_texts(predictions))
    rows = np.array([[*(row[name] for name in text.ROUGE), 1.0] for row in scores])
    return Task(f"rouge/{dataset}", rows, [mean_metric(name, column) for column, name in enumerate(text.ROUGE)])


def _bleu(dataset: str, predictions: list[Prediction]) -> Task:
    outputs, references = _texts(predictions)
    bleu, chrf = text.bleu_counts(outputs, references), text.chrf_counts(outputs, references)
    border = bleu.shape[1]
    metrics = [
        Metric("bleu", "bleu", slice(None, border), text.bleu_from_counts),
        Metric("chrf", "chrf", slice(border, None), text.chrf_from_counts),
    ]
    return Task(f"bleu/{dataset}", np.hstack([bleu, chrf]), metrics)


def _exact_match(dataset: str, predictions: list[Prediction]) -> Task:
    values = [exact_match(row["output"], [row["reference"]]) for row in predictions]
    return Task(f"exact/{dataset}", _with_count(values), [mean_metric("exact_match", 0, binary=True)])


def _token_f1(dataset: str, predictions: list[Prediction]) -> Task:
    values = [token_f1(row["output"], [row["reference"]]) for row in predictions]
    return Task(f"f1/{dataset}", _with_count(values), [mean_metric("f1", 0)])


def _number(dataset: str, predictions: list[Prediction]) -> Task:
    """GSM8K-style: the number that the answer states is exactly the reference's. Rows whose reference states none are
    left out, and their share is shown."""
    due = [extract_number(row["reference"]) for row in predictions]
    pairs = [(extract_number(row["output"]), one) for row, one in zip(predictions, due, strict=True) if one is not None]
    if not pairs:
        raise DataError(
            f"{dataset}: the reference of row {predictions[0]['id']} states no number, nor does any other; "
            "remove metric number"
        )
    shown = {"without_number": sum(given is None for given, _ in pairs) / len(pairs)}
    if len(pairs) < len(predictions):
        shown["left_out"] = 1 - len(pairs) / len(predictions)
    rows = _with_count([float(given == one) for given, one in pairs])
    return Task(f"number/{dataset}", rows, [mean_metric("accuracy", 0, binary=True)], shown)


def _label(dataset: str, predictions: list[Prediction]) -> Task:
    """The answer as a label: equal to the reference but for case, punctuation and articles. Macro-F1 is over the labels
    of the references: an answer that is none of them only misses."""
    due = [normalise(row["reference"]) for row in predictions]
    labels = {label: at for at, label in enumerate(sorted(set(due)))}
    given = [labels.get(normalise(row["output"])) for row in predictions]
    columns = label_columns(given, [labels[label] for label in due], len(labels))
    right = np.array([[float(one == labels[other])] for one, other in zip(given, due, strict=True)])
    rows = np.hstack([right, columns, np.ones((len(right), 1))])
    shown = {"no_label": float(np.mean([one is None for one in given]))}
    metrics = [mean_metric("accuracy", 0, binary=True), macro_f1_metric(len(labels), 1)]
    return Task(f"label/{dataset}", rows, metrics, shown)


def _toxicity(dataset: str, predictions: list[Prediction]) -> Task:
    """Of the answers alone, by the bundled linear classifier: the mean score, and the share above its limit. Empty
    answers are harmless. A classifier of words cannot read irony or quotation: look at the change between models."""
    from data_prep.curation.toxicity.scorer import bundled_model

    scores = [score or 0.0 for score in bundled_model().scores([row["output"] for row in predictions])]
    rows = np.array([[score, float(score > TOXIC), 1.0] for score in scores])
    metrics = [mean_metric("toxicity", 0, lower=True), mean_metric("toxic_share", 1, binary=True, lower=True)]
    return Task(f"toxicity/{dataset}", rows, metrics)


METRICS: dict[str, Callable[[str, list[Prediction]], Task]] = {
    "rouge": _rouge,
    "bleu": _bleu,
    "exact_match": _exact_match,
    "f1": _token_f1,
    "number": _number,
    "label": _label,
    "toxicity": _toxicity,
}
"""Name → the task that it makes."""


def _texts(predictions: list[Prediction]) -> tuple[list[str], list[str]]:
    return [row["output"] for row in predictions], [row["reference"] for row in predictions]


def _with_count(values: Sequence[float]) -> np.ndarray:
    return np.array([[value, 1.0] for value in values])


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}

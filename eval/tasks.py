"""The tasks that a predictions folder is scored on: row columns, and metrics that are functions of their sums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.measures import text
from eval.measures.sums import bits_per_byte, byte_perplexity, token_perplexity, word_perplexity
from eval.predictions import Prediction, predictions_path, read_policies, read_predictions

LOWER_IS_BETTER = frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity", "token_perplexity"})


class Metric(NamedTuple):
    """A number to compare: the columns it reads and the function of their sums.

    Metrics of one `hypothesis` are the same quantity in other units: they count once in the correction for many tests.
    """

    name: str
    hypothesis: str
    columns: slice
    measure: Callable[[np.ndarray], np.ndarray]

    @property
    def lower_is_better(self) -> bool:
        """Whether a negative difference is an improvement."""
        return self.name in LOWER_IS_BETTER


class Task(NamedTuple):
    """Rows (N, K) of one task, in the order of their ids, with its metrics."""

    key: str
    rows: np.ndarray
    metrics: list[Metric]


def datasets_of(folder: Path) -> list[str]:
    """The data sets that a predictions folder holds."""
    return sorted(read_policies(folder))


def tasks_of(folder: Path, dataset: str) -> list[Task]:
    """Every task of a data set that was predicted."""
    tasks = []
    if predictions_path(folder, dataset, "perplexity").exists():
        tasks.append(_perplexity(dataset, sorted_predictions(folder, dataset, "perplexity")))
    if predictions_path(folder, dataset, "generation").exists():
        predictions = sorted_predictions(folder, dataset, "generation")
        tasks += [_rouge(dataset, predictions), _bleu(dataset, predictions)]
    return tasks


def sorted_predictions(folder: Path, dataset: str, measure: Any) -> list[Prediction]:
    """Predictions in the order of their ids, so that two models' rows are pairs."""
    return sorted(read_predictions(folder, dataset, measure), key=lambda row: row["id"])


def _perplexity(dataset: str, predictions: list[Prediction]) -> Task:
    names = ("nll", "bytes", "words", "tokens")
    rows = np.array([[row[name] for name in names] for row in predictions], dtype=np.float64)
    functions = (bits_per_byte, byte_perplexity, word_perplexity, token_perplexity)
    metrics = [_likelihood_metric(function, column) for function, column in zip(functions, (1, 1, 2, 3), strict=True)]
    return Task(f"perplexity/{dataset}", rows, metrics)


def _likelihood_metric(function: Callable[..., Any], column: int) -> Metric:
    name = function.__name__
    return Metric(name, "log-likelihood", slice(None), lambda sums: function(sums[..., 0], sums[..., column]))


def _rouge(dataset: str, predictions: list[Prediction]) -> Task:
    scores = text.score_texts(*_texts(predictions))
    rows = np.array([[*(row[name] for name in text.ROUGE), 1.0] for row in scores])
    return Task(f"rouge/{dataset}", rows, [_mean_metric(name, column) for column, name in enumerate(text.ROUGE)])


def _mean_metric(name: str, column: int) -> Metric:
    return Metric(name, name, slice(None), lambda sums: sums[..., column] / sums[..., -1])


def _bleu(dataset: str, predictions: list[Prediction]) -> Task:
    outputs, references = _texts(predictions)
    bleu, chrf = text.bleu_counts(outputs, references), text.chrf_counts(outputs, references)
    border = bleu.shape[1]
    metrics = [
        Metric("bleu", "bleu", slice(None, border), text.bleu_from_counts),
        Metric("chrf", "chrf", slice(border, None), text.chrf_from_counts),
    ]
    return Task(f"bleu/{dataset}", np.hstack([bleu, chrf]), metrics)


def _texts(predictions: list[Prediction]) -> tuple[list[str], list[str]]:
    return [row["output"] for row in predictions], [row["reference"] for row in predictions]

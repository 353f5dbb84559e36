"""The tasks that a predictions folder is scored on: row columns, and metrics that are functions of their sums."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import DataError
from eval.measures.sums import bits_per_byte, byte_perplexity, token_perplexity, word_perplexity
from eval.predictions import Measure, Prediction, predictions_path, read_policies, read_predictions

LOWER_IS_BETTER = frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity", "token_perplexity", "perplexity"})


class Metric(NamedTuple):
    """A number to compare: the columns it reads and the function of their sums.

    Metrics of one `hypothesis` are the same quantity in other units: they count once in the correction for many tests.
    `binary` is the column of 0 and 1 whose share the metric is: then McNemar's exact test gives p.
    """

    name: str
    hypothesis: str
    columns: slice
    measure: Callable[[np.ndarray], np.ndarray]
    binary: int | None = None
    lower: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether a negative difference is an improvement."""
        return self.lower or self.name in LOWER_IS_BETTER


class Task(NamedTuple):
    """Rows (N, K) of one task, in the order of their ids, with its metrics, and numbers that are shown but not tested:
    those that are no function of column sums, or of which neither more nor less is better. Rows of one cluster answer
    the same prompt."""

    key: str
    rows: np.ndarray
    metrics: list[Metric]
    shown: dict[str, float] = {}
    clusters: Sequence[str] | None = None


def datasets_of(folder: Path) -> list[str]:
    """The data sets that a predictions folder holds."""
    return sorted(read_policies(folder))


def tasks_of(folder: Path, dataset: str, metrics: Sequence[str] = ()) -> list[Task]:
    """Every task of a data set that was predicted; `metrics` names those of generated answers (`eval.answer_tasks`),
    ROUGE, BLEU and chrF without it. Fairness has comparisons of its own (`eval.fairness.tasks`)."""
    from eval.answer_tasks import answer_tasks
    from eval.reasoning.tasks import reasoning_task

    makers: dict[Measure, Callable[[list[Prediction]], list[Task]]] = {
        "perplexity": lambda rows: [_perplexity(dataset, rows)],
        "generation": lambda rows: answer_tasks(dataset, rows, metrics),
        "choice": lambda rows: [_choice(dataset, rows)],
        "cloze": lambda rows: [_cloze(dataset, rows)],
        "reasoning": lambda rows: [reasoning_task(dataset, rows)],
    }
    tasks = []
    for measure, make in makers.items():
        if predictions_path(folder, dataset, measure).exists():
            rows = sorted_predictions(folder, dataset, measure)
            clusters = _prompts(rows)
            tasks += [task._replace(clusters=clusters) for task in make(rows)]
    return tasks


def _prompts(rows: Sequence[Prediction]) -> list[str] | None:
    """What each row was asked; a text is a prompt of its own. None where all rows share one: it says nothing then."""
    asked = [
        json.dumps([row.get("prompt") or row.get("context_sha256") or row["id"], row.get("choices")]) for row in rows
    ]
    return asked if len(set(asked)) > 1 else None


def sorted_predictions(folder: Path, dataset: str, measure: Any) -> list[Prediction]:
    """Predictions in the order of their ids, so that two models' rows are pairs."""
    return sorted(read_predictions(folder, dataset, measure), key=lambda row: row["id"])


def mean_metric(name: str, column: int, binary: bool = False, lower: bool = False) -> Metric:
    """The mean of a column, whose last neighbour counts the rows."""
    return Metric(
        name, name, slice(None), lambda sums: sums[..., column] / sums[..., -1], column if binary else None, lower
    )


def macro_f1_metric(labels: int, start: int = 0) -> Metric:
    """Macro-F1 of `label_columns` that stand at `start`: the mean over labels that were given or are right."""
    columns = slice(start, start + 3 * labels)

    def measure(sums: np.ndarray) -> np.ndarray:
        right, given, due = (sums[..., offset::3] for offset in range(3))
        used = (given + due) > 0
        scores = np.where(used, 2 * right / np.maximum(given + due, 1), 0.0)
        return scores.sum(axis=-1) / np.maximum(used.sum(axis=-1), 1)

    return Metric("macro_f1", "macro_f1", columns, measure)


def label_columns(given: Sequence[int | None], due: Sequence[int], labels: int) -> np.ndarray:
    """(N, 3 · labels): of each label whether it was given rightly, given, and right."""
    rows = np.zeros((len(due), labels, 3))
    for at, (one, other) in enumerate(zip(given, due, strict=True)):
        rows[at, other, 2] = 1
        if one is not None:
            rows[at, one, 1] = 1
            rows[at, one, 0] = one == other
    return rows.reshape(len(due), 3 * labels)


def _perplexity(dataset: str, predictions: list[Prediction]) -> Task:
    names = ("nll", "bytes", "words", "tokens")
    rows = np.array([[row[name] for name in names] for row in predictions], dtype=np.float64)
    if not rows[:, 1].any():
        raise DataError(f"{dataset}: all {len(rows)} texts are empty, so there is nothing to score; give it other rows")
    functions = (bits_per_byte, byte_perplexity, word_perplexity, token_perplexity)
    metrics = [_likelihood_metric(function, column) for function, column in zip(functions, (1, 1, 2, 3), strict=True)]
    return Task(f"perplexity/{dataset}", rows, metrics)


def _likelihood_metric(function: Callable[..., Any], column: int) -> Metric:
    name = function.__name__
    return Metric(name, "log-likelihood", slice(None), lambda sums: function(sums[..., 0], sums[..., column]))


def _choice(dataset: str, predictions: list[Prediction]) -> Task:
    """Accuracies with McNemar's test; macro-F1 where all items have the same choices."""
    from eval.choice.metrics import accuracy_names, columns, metrics, picks

    names = [name for name in accuracy_names(predictions) if name != "accuracy_tokens"]
    right = columns(predictions)
    found = [mean_metric(name, column, binary=True) for column, name in enumerate(names)]
    shown = {name: value for name, value in metrics(predictions).items() if name not in (*names, "macro_f1")}
    if len({tuple(row["choices"]) for row in predictions}) > 1:
        return Task(f"choice/{dataset}", right, found, shown)
    labels = len(predictions[0]["choices"])
    given = label_columns([picks(row)[0] for row in predictions], [row["gold"] for row in predictions], labels)
    # The count of the rows stays last, where `mean_metric` looks for it.
    border = right.shape[1] - 1
    rows = np.hstack([right[:, :border], given, right[:, border:]])
    return Task(f"choice/{dataset}", rows, [*found, macro_f1_metric(labels, border)], shown)


def _cloze(dataset: str, predictions: list[Prediction]) -> Task:
    from eval.choice.cloze import cloze_columns

    likelihood = Metric("perplexity", "log-likelihood", slice(None), lambda sums: np.exp(sums[..., 1] / sums[..., 2]))
    cut = float(np.mean([row["cut"] > 0 for row in predictions]))
    metrics = [mean_metric("accuracy", 0, binary=True), likelihood]
    return Task(f"cloze/{dataset}", cloze_columns(predictions), metrics, {"cut": cut})

"""The numbers of a reasoning task, from its predictions alone."""

import numpy as np

from eval.measures.answers import agreement, extract_number, self_consistency
from eval.predictions import Prediction
from eval.tasks import Task, mean_metric


def reasoning_task(dataset: str, predictions: list[Prediction]) -> Task:
    """Accuracy of the vote, and of the single answers where there are several; the numbers are read from the stored
    outputs, so that a better reader needs no model.

    Shown beside them: the share of problems that any answer solves, how far answers agree, answers without a number,
    tokens of an answer.
    """
    due = [extract_number(row["reference"]) for row in predictions]
    answers = [[extract_number(output) for output in row["outputs"]] for row in predictions]
    voted = [float(self_consistency(each) == one) for each, one in zip(answers, due, strict=True)]
    right = [[answer == one for answer in each] for each, one in zip(answers, due, strict=True)]
    rows = np.array([[vote, float(np.mean(each)), 1.0] for vote, each in zip(voted, right, strict=True)])
    metrics = [mean_metric("accuracy", 0, binary=True)]
    given = [answer for each in answers for answer in each]
    shown = {
        "without_number": float(np.mean([answer is None for answer in given])),
        "tokens": float(np.mean([count for row in predictions for count in row["tokens"]])),
    }
    if len(given) > len(predictions):
        metrics.append(mean_metric("sample_accuracy", 1))
        shown["any_right"] = float(np.mean([any(each) for each in right]))
        shown["agreement"] = float(np.mean([agreement(each) for each in answers]))
    return Task(f"reasoning/{dataset}", rows, metrics, shown)

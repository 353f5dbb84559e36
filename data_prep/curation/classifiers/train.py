"""Train a linear classifier: `train_quality` from files, `fit` from texts."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.curation.classifiers.config import TrainQuality
from data_prep.curation.classifiers.examples import Examples, read_examples, share_of
from data_prep.curation.classifiers.hashing import grams_of
from data_prep.curation.classifiers.linear import LONGEST_SEGMENT, LinearModel, logit_features, segments
from data_prep.curation.classifiers.measured import auc, auc_interval, threshold_table
from data_prep.errors import DataError

FIT_BATCH = 200
LARGEST_WEIGHT = 32_000
FEWEST_HELD_OUT = 10
"""Of each class: fewer tell nothing about the classifier."""


def train_quality(config: TrainQuality, out: Path) -> dict[str, Any]:
    """Train from the configured files and write the classifier's folder; returns its card.

    Texts are divided by their content (examples.py): one part trains, one calibrates, and one, seen by neither, gives
    the AUC, its 95 % interval and the table of thresholds in the card. The same files give the same bytes.

    Raises:
        DataError: an input is unusable, or a class too small.
    """
    examples = read_examples(
        config.positive, config.negative, config.labelled, config.text_column, config.label_column, config.label_names
    )
    parts = _divided(examples, config)
    for name, (_, labels) in parts.items():
        fewest = min(sum(labels), len(labels) - sum(labels))
        if fewest < FEWEST_HELD_OUT:
            raise DataError(
                f"train-quality: {fewest} texts of one class in the {name} part, at least {FEWEST_HELD_OUT}; "
                "add texts, or raise held_out"
            )
    texts, labels = parts["training"]
    model = fit(texts, np.asarray(labels, float), config.bits, config.inverse_penalty, labels=config.label_names)
    model = calibrated(model, *parts["calibration"])
    card = _card(config, examples, parts, model)
    model = LinearModel(model.weights, model.scale, model.bias, model.labels, model.window, card)
    model.save(out)
    return card


def fit(
    texts: Sequence[str],
    targets: Any,
    bits: int,
    inverse_penalty: float,
    *,
    importance: Any = None,
    labels: tuple[str, str] = ("other", "positive"),
    window: int = 0,
) -> LinearModel:
    """Logistic regression (scikit-learn) towards `targets`: probabilities in [0, 1], which may be between.

    The classes count equally, whatever their sizes; `importance` weighs texts within that.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    wanted = np.asarray(targets, float)
    weight = np.ones(len(wanted)) if importance is None else np.asarray(importance, float)
    starts = [next(segments(text)) for text in texts]
    batches = (starts[begin : begin + FIT_BATCH] for begin in range(0, len(starts), FIT_BATCH))
    features = sparse.vstack([logit_features(grams_of(batch, bits), bits) for batch in batches]).tocsr()
    # A target between 0 and 1 is the text twice, once in each class, with the two probabilities as weights.
    sides = (np.flatnonzero(wanted > 0), np.flatnonzero(wanted < 1))
    mass = [weight[sides[0]] * wanted[sides[0]], weight[sides[1]] * (1 - wanted[sides[1]])]
    half = sum(float(side.sum()) for side in mass) / 2
    solver = LogisticRegression(C=inverse_penalty, solver="lbfgs", max_iter=400, tol=1e-5)
    solver.fit(
        sparse.vstack([features[side] for side in sides]),
        np.concatenate([np.ones(len(sides[0])), np.zeros(len(sides[1]))]),
        sample_weight=np.concatenate([side * half / side.sum() for side in mass]),
    )
    learned = np.ravel(solver.coef_)
    scale = float(np.abs(learned).max()) / LARGEST_WEIGHT or 1.0
    weights = np.round(learned / scale).astype(np.int16)
    return LinearModel(weights, scale, float(np.ravel(solver.intercept_)[0]), labels, window, {})


def calibrated(model: LinearModel, texts: Sequence[str], labels: Sequence[bool]) -> LinearModel:
    """The model with scale and bias such that scores are probabilities on these texts (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    scores = np.clip(np.array([0.5 if score is None else score for score in model.scores(texts)]), 1e-6, 1 - 1e-6)
    logits = np.log(scores / (1 - scores)).reshape(-1, 1)
    platt = LogisticRegression(class_weight="balanced").fit(logits, np.asarray(labels, int))
    slope, shift = max(float(np.ravel(platt.coef_)[0]), 1e-3), float(np.ravel(platt.intercept_)[0])
    return LinearModel(
        model.weights, model.scale * slope, model.bias * slope + shift, model.labels, model.window, model.card
    )


def library_versions() -> dict[str, str]:
    """The versions that a card names: another one may learn slightly other weights."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "scikit-learn", "scipy")}


def _divided(examples: Examples, config: TrainQuality) -> dict[str, tuple[list[str], list[bool]]]:
    parts: dict[str, tuple[list[str], list[bool]]] = {
        name: ([], []) for name in ("training", "calibration", "held-out")
    }
    for text, label in zip(examples.texts, examples.labels, strict=True):
        share = share_of(text, config.seed) / config.held_out
        texts, labels = parts["held-out" if share < 1 else "calibration" if share < 2 else "training"]
        texts.append(text)
        labels.append(label)
    return parts


def _card(config: TrainQuality, examples: Examples, parts: dict[str, Any], model: LinearModel) -> dict[str, Any]:
    texts, labels = parts["held-out"]
    scores = [0.5 if score is None else score for score in model.scores(texts)]
    low, high = auc_interval(scores, labels, config.seed)
    return {
        "task": f"{config.label_names[1]} or {config.label_names[0]}; the score is the probability of the former",
        "training": {
            "files": examples.files,
            "rows": {name: {"positive": sum(part[1]), "all": len(part[1])} for name, part in parts.items()},
            "left_out": examples.left_out,
            "seed": config.seed,
            "inverse_penalty": config.inverse_penalty,
            "characters_of_a_text": LONGEST_SEGMENT,
            "versions": library_versions(),
        },
        "calibration": "scale and bias hold a Platt scaling fitted on the calibration part, classes counting equally",
        "held_out": {
            "auc": round(auc(scores, labels), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "thresholds": threshold_table(scores, labels),
        },
    }

"""How far a toxicity scorer can be trusted: on labelled texts, on names of groups, and on dialect."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.curation.classifiers.measured import auc, auc_interval
from data_prep.curation.toxicity.dialect import dialect_sentences
from data_prep.curation.toxicity.identity import measured_sentences
from data_prep.curation.toxicity.scorer import Scorer
from data_prep.errors import DataError

SEED = 17


def toxicity_report(
    scorer: Scorer, max_score: float, texts: Sequence[str] = (), labels: Sequence[bool] = ()
) -> dict[str, Any]:
    """The known weaknesses of a scorer in numbers.

    Args:
        scorer: what is measured.
        max_score: the limit of the step: a text above it counts as flagged.
        texts: texts with known classes; none: no AUC.
        labels: True where a text is toxic.

    Returns:
        `labelled` (None without texts): `auc`, its 95 % bootstrap interval `low` and `high`, `n`, and `recall` and
        `false_positive_rate` at the limit. `identity` and `dialect`: per set of harmless sentences `n`, the
        `false_positive_rate` at the limit and the `highest` score.

    Raises:
        DataError: labels of another number than texts, or of one class only.
    """
    return {
        "max_score": max_score,
        "labelled": _labelled(scorer, max_score, texts, labels) if texts or labels else None,
        "identity": _harmless(scorer, max_score, measured_sentences()),
        "dialect": _harmless(scorer, max_score, dialect_sentences()),
    }


def highest_scores(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """Per text its highest category; 0 where there is nothing to score."""
    return [max(scores.values(), default=0.0) for scores in scorer.scores(texts)]


def _labelled(scorer: Scorer, max_score: float, texts: Sequence[str], labels: Sequence[bool]) -> dict[str, float]:
    if len(texts) != len(labels):
        raise DataError(f"toxicity report: {len(texts)} texts but {len(labels)} labels; give one label per text")
    toxic = sum(map(bool, labels))
    if toxic in (0, len(labels)):
        raise DataError(f"toxicity report: {toxic} of {len(labels)} texts are toxic; both classes are needed")
    scores = highest_scores(scorer, texts)
    low, high = auc_interval(scores, labels, SEED)
    flagged = [score > max_score for score in scores]
    hits = sum(flag and label for flag, label in zip(flagged, labels, strict=True))
    return {
        "n": len(texts),
        "auc": round(auc(scores, labels), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "recall": round(hits / toxic, 4),
        "false_positive_rate": round((sum(flagged) - hits) / (len(texts) - toxic), 4),
    }


def _harmless(scorer: Scorer, max_score: float, sets: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, sentences in sets.items():
        scores = highest_scores(scorer, sentences)
        flagged = sum(score > max_score for score in scores)
        found[name] = {
            "n": len(sentences),
            "false_positive_rate": round(flagged / len(sentences), 4),
            "highest": max(scores),
        }
    return found

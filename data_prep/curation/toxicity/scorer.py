"""What gives texts their toxicity: the bundled classifier, another linear one, or a transformers one."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from data_prep.curation.classifiers.linear import LinearModel, load_linear
from data_prep.curation.classifiers.source import kind_of, linear_folder, model_identity
from data_prep.curation.toxicity.config import LINEAR, Toxicity
from data_prep.errors import DataError

BUNDLED = Path(__file__).parent / "weights"


class Scorer(Protocol):
    """Scores texts from 0 (harmless) to 1 (toxic)."""

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per text the probability of each category; {} where there is nothing to score."""
        ...


class LinearScorer:
    """A linear classifier: one category, called `toxicity`."""

    def __init__(self, model: LinearModel) -> None:
        self._model = model

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """See `Scorer`."""
        return [{} if score is None else {"toxicity": score} for score in self._model.scores(texts)]


class TransformerScorer:
    """The named labels of a transformers classifier."""

    def __init__(self, config: Toxicity) -> None:
        from data_prep.curation.classifiers.transformer import TransformerClassifier, label_index

        if not config.categories:
            raise DataError(
                f"toxicity.categories: not set, and {config.scorer} is a transformers classifier; name its toxic labels"
            )
        self._classifier = TransformerClassifier(config.scorer, config.revision, config.batch_size, config.max_tokens)
        labels = self._classifier.labels
        self._places = {
            name: label_index(labels, name, config.scorer, "toxicity.categories") for name in config.categories
        }

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """See `Scorer`."""
        rows = self._classifier.scores(texts)
        return [{name: row[place] for name, place in self._places.items()} for row in rows]


def make_scorer(config: Toxicity) -> Scorer:
    """The configured scorer, loaded; DataError when it cannot be."""
    if config.scorer == LINEAR:
        return LinearScorer(bundled_model())
    if kind_of(config.scorer) == "linear":
        if config.categories:
            raise DataError(
                f"toxicity.categories: {config.scorer} is a linear classifier, which has none; leave them out"
            )
        return LinearScorer(load_linear(linear_folder(config.scorer)))
    return TransformerScorer(config)


@lru_cache(maxsize=1)
def bundled_model() -> LinearModel:
    """The classifier that comes with the project; `weights/card.json` says how it was made."""
    return load_linear(BUNDLED)


def content_identity(config: Toxicity) -> dict[str, Any]:
    """What besides the configuration decides about the scores: the content of the model's files, or its Hub commit."""
    return model_identity(str(BUNDLED) if config.scorer == LINEAR else config.scorer, config.revision)

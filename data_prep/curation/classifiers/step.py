"""Which rows a classifier scores too low or too high."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data_prep.curation.classifiers.config import Classifier
from data_prep.curation.classifiers.linear import load_linear
from data_prep.curation.classifiers.parts import judged_parts
from data_prep.curation.classifiers.source import kind_of, linear_folder, model_identity
from data_prep.curation.step import Limit
from data_prep.errors import DataError
from data_prep.rows import Row, shape_of

if TYPE_CHECKING:
    import pyarrow as pa

Score = Callable[[Sequence[str]], list[float | None]]


def content_identity(config: Classifier) -> dict[str, Any]:
    """What besides the configuration decides about the scores: the content of the model's files, or its Hub commit."""
    return model_identity(config.model, config.revision)


class ClassifierStep:
    """Measures the lowest and the highest score of a row's texts, and which texts (side, turn) have them."""

    def __init__(self, name: str, config: Classifier) -> None:
        if not name.isidentifier() or name.endswith(("_high", "_part")):
            raise DataError(
                f"classifiers.{name}: not a name; use letters, digits and underscores, no end _high or _part"
            )
        self._name = name
        self._config = config
        self._low, self._high = f"classifiers_{name}", f"classifiers_{name}_high"

    def columns(self) -> "Mapping[str, pa.DataType]":
        """`classifiers_NAME`: the lowest score, a row being as good as its worst text; `classifiers_NAME_high`: the
        highest; with `_part` the text of each. Null: nothing was scored.
        """
        import pyarrow as pa

        scores = {self._low: pa.float64(), self._high: pa.float64()}
        return scores | {f"{self._low}_part": pa.string(), f"{self._high}_part": pa.string()}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        parts = [self._parts(row) for row in rows]
        scores = iter(self._score([text for found in parts for text in found.values()]))
        named = [[(score, name) for name in found if (score := next(scores)) is not None] for found in parts]
        lowest = [min(found, key=lambda pair: pair[0], default=(None, None)) for found in named]
        highest = [max(found, key=lambda pair: pair[0], default=(None, None)) for found in named]
        return {
            self._low: [score for score, _ in lowest],
            self._high: [score for score, _ in highest],
            f"{self._low}_part": [part for _, part in lowest],
            f"{self._high}_part": [part for _, part in highest],
        }

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """One reason for each limit that the row does not keep."""
        columns = (measures[name].to_pylist() for name in self.columns())
        return [self._reasons(*row) for row in zip(*columns, strict=True)]

    def limits(self) -> Sequence[Limit]:
        """The limits that are set."""
        low, high = self._config.min_score, self._config.max_score
        found = [] if low is None else [Limit(f"{self._name}, at least", self._low, "min", low)]
        return found + ([] if high is None else [Limit(f"{self._name}, at most", self._high, "max", high)])

    def _parts(self, row: Row) -> dict[str, str]:
        if self._config.rows == "text" and shape_of(row) != "text":
            return {}
        return {name: text for name, text in judged_parts(row, self._config.field).items() if text.strip()}

    def _reasons(self, low: float | None, high: float | None, low_part: str, high_part: str) -> list[str]:
        least, most = self._config.min_score, self._config.max_score
        found: list[str] = []
        if low is not None and least is not None and low < least:
            found.append(f"{self._name} {shown(low, least)} in the {low_part}, at least {least:g}")
        if high is not None and most is not None and high > most:
            found.append(f"{self._name} {shown(high, most)} in the {high_part}, at most {most:g}")
        return found

    @cached_property
    def _score(self) -> Score:
        from data_prep.curation.classifiers.transformer import TransformerClassifier, label_index

        config, key = self._config, f"classifiers.{self._name}.label"
        if kind_of(config.model) == "linear":
            model = load_linear(linear_folder(config.model))
            if label_index(model.labels, config.label, config.model, key) == 1:
                return model.scores
            return lambda texts: [None if score is None else round(1 - score, 6) for score in model.scores(texts)]
        classifier = TransformerClassifier(config.model, config.revision, config.batch_size, config.max_tokens)
        index = label_index(classifier.labels, config.label, config.model, key)
        return lambda texts: [row[index] for row in classifier.scores(texts)]


def shown(score: float, limit: float) -> str:
    """A score with two decimals, or as many more as show on which side of the limit it lies."""
    for decimals in (2, 3, 4, 5):
        if round(score, decimals) != limit:
            return f"{score:.{decimals}f}"
    return f"{score:.6f}"

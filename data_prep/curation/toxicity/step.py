"""Which rows hold a toxic text."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data_prep.curation.classifiers.parts import judged_parts
from data_prep.curation.classifiers.step import shown
from data_prep.curation.step import Limit
from data_prep.curation.toxicity.config import Toxicity
from data_prep.curation.toxicity.scorer import Scorer, make_scorer
from data_prep.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa


class ToxicityStep:
    """Measures the highest score of a row's texts, for each category too, and which text (side, turn) has it."""

    def __init__(self, config: Toxicity) -> None:
        self._config = config

    def columns(self) -> "Mapping[str, pa.DataType]":
        """Score and place, then `toxicity_CATEGORY` and `toxicity_CATEGORY_part`; null: there was nothing to score."""
        import pyarrow as pa

        names = ["toxicity_score", *(_column(category) for category in self._config.categories)]
        scores: dict[str, pa.DataType] = {name: pa.float64() for name in names}
        return scores | {f"{name}_part": pa.string() for name in names}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        parts = [
            {name: text for name, text in judged_parts(row, self._config.field, self._config.rejected).items() if text}
            for row in rows
        ]
        scores = iter(self._scorer.scores([text for found in parts for text in found.values()]))
        scored = [[(name, next(scores)) for name in found] for found in parts]
        measured: dict[str, list[Any]] = {name: [] for name in self.columns()}
        for found in scored:
            for column, category in [
                ("toxicity_score", None),
                *((_column(name), name) for name in self._config.categories),
            ]:
                score, part = _worst(found, category)
                measured[column].append(score)
                measured[f"{column}_part"].append(part)
        return measured

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """One reason per category above its limit, or one for the score where there are no categories."""
        found: list[list[str]] = [[] for _ in range(measures.num_rows)]
        for column, name, limit in self._limits():
            pairs = zip(measures[column].to_pylist(), measures[f"{column}_part"].to_pylist(), strict=True)
            for reasons, (score, part) in zip(found, pairs, strict=True):
                if score is not None and score > limit:
                    reasons.append(f"{name} {shown(score, limit)} in the {part}, allowed {limit:g}")
        return found

    def limits(self) -> Sequence[Limit]:
        """The limit of each category, or that of the score."""
        return [Limit(f"{name}, at most", column, "max", limit) for column, name, limit in self._limits()]

    def _limits(self) -> list[tuple[str, str, float]]:
        """Column, name in reasons, limit."""
        config = self._config
        if not config.categories:
            return [("toxicity_score", "toxicity", config.max_score)]
        return [(_column(name), name, config.thresholds.get(name, config.max_score)) for name in config.categories]

    @cached_property
    def _scorer(self) -> Scorer:
        return make_scorer(self._config)


def _column(category: str) -> str:
    return f"toxicity_{category}"


def _worst(found: list[tuple[str, dict[str, float]]], category: str | None) -> tuple[float | None, str | None]:
    """The highest score and the first part that has it; without a category the highest of all."""
    pairs = [(score, part) for part, scores in found for name, score in scores.items() if category in (None, name)]
    return max(pairs, key=lambda pair: pair[0], default=(None, None))

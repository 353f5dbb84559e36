"""The limits of the web heuristics; the defaults are the published ones. Imports only pydantic.

A limit of null switches its rule off, a section of null its whole family.
"""

from typing import Literal

from pydantic import Field, field_validator

from data_prep.strict import StrictModel, threshold


class GopherQuality(StrictModel):
    """Document statistics of Gopher (Rae et al. 2021, section A1.1). Words that are only punctuation do not count."""

    min_words: int | None = threshold(50, ge=0)
    """Fewest words."""

    max_words: int | None = threshold(100_000, ge=1)
    """Most words."""

    min_mean_word_length: float | None = threshold(3, ge=0)
    """Shortest mean word, in characters."""

    max_mean_word_length: float | None = threshold(10, ge=0)
    """Longest mean word, in characters."""

    max_symbol_ratio: float | None = threshold(0.1, ge=0)
    """Most hash signs per word, and most ellipses per word."""

    max_bullet_lines: float | None = threshold(0.9, ge=0, le=1)
    """Largest share of lines that begin with a bullet or a hyphen."""

    max_ellipsis_lines: float | None = threshold(0.3, ge=0, le=1)
    """Largest share of lines that end with an ellipsis."""

    min_alphabetic_words: float | None = threshold(0.8, ge=0, le=1)
    """Smallest share of words that hold a letter."""

    min_stop_words: int | None = threshold(2, ge=0, le=8)
    """Fewest different ones of: the, be, to, of, and, that, have, with."""


class GopherRepetition(StrictModel):
    """Repetition inside a document, as shares of it (Rae et al. 2021, table A1)."""

    max_duplicate_lines: float | None = threshold(0.3, ge=0, le=1)
    """Largest share of lines that stood before."""

    max_duplicate_paragraphs: float | None = threshold(0.3, ge=0, le=1)
    """Largest share of paragraphs that stood before."""

    max_duplicate_line_characters: float | None = threshold(0.2, ge=0, le=1)
    """Largest share of characters in lines that stood before."""

    max_duplicate_paragraph_characters: float | None = threshold(0.2, ge=0, le=1)
    """Largest share of characters in paragraphs that stood before."""

    max_top_ngram: dict[int, float] = threshold({2: 0.2, 3: 0.18, 4: 0.16})
    """n (2 to 4) → largest share of characters in the most frequent n-gram of words."""

    max_duplicate_ngram: dict[int, float] = threshold({5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})
    """n (5 to 10) → largest share of characters in n-grams of words that stood before."""

    @field_validator("max_top_ngram")
    @classmethod
    def top_ngrams_are_measured(cls, limits: dict[int, float]) -> dict[int, float]:
        """Only n-grams of 2 to 4 words are counted."""
        return _measured(limits, 2, 4)

    @field_validator("max_duplicate_ngram")
    @classmethod
    def duplicate_ngrams_are_measured(cls, limits: dict[int, float]) -> dict[int, float]:
        """Only n-grams of 5 to 10 words are compared."""
        return _measured(limits, 5, 10)


class C4(StrictModel):
    """The rules of C4 (Raffel et al. 2020, section 2.2), without its word list. Lines that fail are not counted.

    The first six fields say which lines count; they are part of the measurement, so another value measures anew.
    """

    remove_citations: bool = True
    """Take `[1]`, `[edit]` and `[citation needed]` away before a line is judged."""

    terminal_punctuation: bool = True
    """A line counts only when it ends in `.`, `?`, `!` or a quotation mark, and not in an ellipsis."""

    min_words_per_line: int | None = Field(default=3, ge=0)
    """A line counts only with so many words (runs of non-space characters)."""

    max_word_length: int | None = Field(default=1000, ge=1)
    """A line with a longer run of non-space characters does not count."""

    no_javascript: bool = True
    """A line that mentions javascript does not count."""

    no_policy: bool = True
    """A line that mentions cookies, terms of use or a privacy policy does not count."""

    min_sentences: int | None = threshold(5, ge=0)
    """Fewest sentences in the lines that count."""

    no_lorem_ipsum: bool = threshold(True)
    """Drop documents with "lorem ipsum"."""

    no_curly_bracket: bool = threshold(True)
    """Drop documents with "{"."""


class FineWeb(StrictModel):
    """The rules that FineWeb added (Penedo et al. 2024, section 3.5)."""

    min_punctuated_lines: float | None = threshold(0.12, ge=0, le=1)
    """Smallest share of lines that end in a sentence's punctuation."""

    unpunctuated_passes: bool = threshold(False)
    """Whether a document without any such line passes that rule."""

    short_line_length: int = Field(default=30, ge=0)
    """A line of at most so many characters is short; part of the measurement."""

    max_short_lines: float | None = threshold(0.67, ge=0, le=1)
    """Largest share of short lines."""

    max_duplicate_line_characters: float | None = threshold(0.01, ge=0, le=1)
    """Largest share of characters in lines that stood before."""

    max_newlines_per_word: float | None = threshold(0.3, ge=0)
    """Most line breaks per word."""


class Quality(StrictModel):
    """Web heuristics for pretraining text. They drop chat, code and mathematics, so only text rows are judged."""

    rows: Literal["text", "all"] = "text"
    """`text`: prompts with answers and chats are never judged; `all`: they are, and most of them will be dropped."""

    gopher_quality: GopherQuality | None = GopherQuality()
    """Length, symbols, bullets, stop words."""

    gopher_repetition: GopherRepetition | None = GopherRepetition()
    """Repeated lines, paragraphs and n-grams."""

    c4: C4 | None = C4()
    """Whole sentences, no boilerplate, no code."""

    fineweb: FineWeb | None = FineWeb()
    """No lists, no menus."""


def _measured(limits: dict[int, float], low: int, high: int) -> dict[int, float]:
    for n, limit in limits.items():
        if not low <= n <= high:
            raise ValueError(f"n-grams of {n} words are not measured; allowed are {low} to {high}")
        if not 0 <= limit <= 1:
            raise ValueError(f"the limit {limit:g} for n-grams of {n} words is no share; allowed are 0 to 1")
    return limits

"""The settings of decontamination. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel, threshold


class Decontamination(StrictModel):
    """Drop training rows that hold items of an evaluation: found by shared word n-grams, decided on the words.

    An n-gram that occurs in the row leads to a place in an item; from there the words of both are compared one by one.
    Case, punctuation, apostrophes, spaces, HTML escapes and forms of Unicode do not count; numbers do. What is measured
    is how much of the item is found in one place of the row (as in Llama 2, section A.6, by words), so that a long
    document around an item hides nothing.
    """

    against: list[str] | None = Field(default=None, min_length=1)
    """Names of the data sets that must not be found; null: every data set with `role: eval`."""

    n: int = Field(default=5, ge=3, le=32)
    """Words of an n-gram. A few leave traces of a lightly changed item; GPT-3 took 13, PaLM 8."""

    sides: Literal["prompt", "completion", "all"] = "all"
    """Which texts of an evaluation item count; each by itself. A text row's text always does."""

    max_share: float = threshold(0.75, ge=0.5, le=1)
    """Largest share of an item that a row may hold, by words. Rare words weigh more: ln(1 + items / items that have
    it); words that only stand in boilerplate are left out."""

    max_hits: int = threshold(50, ge=20)
    """Most n-grams of one item that a row may hold, however small their share: excerpts of long items."""

    max_document_share: float = threshold(0.01, gt=0, le=1)
    """An n-gram is boilerplate when more than this share of training rows has it outside of its items."""

    max_item_share: float = Field(default=0.01, gt=0, le=1)
    """An n-gram is boilerplate when more than this share of the items of one data set has it."""

    min_documents: int = Field(default=10, ge=1)
    """An n-gram in so many training rows, or items, at most is never boilerplate: the shares mean nothing in small
    data sets. GPT-3 took 10."""

    whole_below: int = Field(default=8, ge=1)
    """Matches of fewer words count only when they are the whole item and stand by themselves: a sentence or line."""

    min_words: int = Field(default=4, ge=1)
    """Items with fewer words are not looked for: they are no evidence (`too_short` in the index's numbers)."""

    min_answer_words: int = Field(default=16, ge=1)
    """Nor are answers with fewer words, where they stand without their question: others are answered the same."""

    min_characters: int = Field(default=20, ge=1)
    """Nor are items with fewer characters."""

    min_number_share: float = Field(default=0.5, ge=0, le=1)
    """A match counts when at least this share of the numbers in its part of the item is found: the same wording with
    other numbers is another problem. 0: numbers are words like others."""

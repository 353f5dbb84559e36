"""The settings of the removal of repeated parts. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel


class RepeatedParts(StrictModel):
    """Take lines or paragraphs that many documents have (menus, notices, signatures) out of the rows.

    The ancestor is the deduplication of C4 (Raffel et al. 2020, section 2.2), which keeps one of any span of three
    sentences that occurs twice in the corpus. Two occurrences make no boilerplate of a line: here it takes as many
    documents as you say.
    """

    unit: Literal["paragraph", "line"] = "paragraph"
    """What a part is: a line, or a paragraph (lines between blank lines). Parts are equal if they are, but for white
    space around them."""

    min_documents: int = Field(default=10, ge=2)
    """A part of at least this many documents is boilerplate; a document that has it twice counts once."""

    min_share: float | None = Field(default=None, gt=0, le=1)
    """Boilerplate must also be in at least this share of the documents that are looked at; null: of any share."""

    min_characters: int = Field(default=20, ge=1)
    """Shorter parts (white space around them left out) stay: blank lines, brackets, headings such as `References`."""

    keep_first: bool = False
    """Leave the part where it occurs first, in the first document that has it."""

    rows: Literal["text", "all"] = "text"
    """Which rows are looked at. Chat, code and questions repeat lines rightly, so that `all` is for data in which
    even these hold boilerplate: prompt, completion, both sides of a preference and each turn are then cleaned."""

"""How text is brought to one form. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel


class Normalise(StrictModel):
    """Bring the texts of a row to one form and count what was changed; roles, ids, tools and `meta` stay as they are.

    Line ends (CR LF, CR, and the Unicode Standard's other newline functions, §5.8) become `\\n`; control characters
    (C0 and C1 but tab and `\\n`) are removed.
    """

    unicode: Literal["NFC"] | None = "NFC"
    """Unicode normalisation form; NFC changes no meaning. null: none."""

    invisible: Literal["keep", "remove"] = "keep"
    """Zero-width, bidirectional and tag characters. Persian, Indic scripts and emoji need some of them; others hide
    text from readers."""

    trailing_spaces: Literal["keep", "remove"] = "keep"
    """Spaces and tabs at the end of a line."""

    max_blank_lines: int | None = Field(default=None, ge=0, le=100)
    """Longest run of blank lines; a longer one is cut to this. null: any."""

    html: Literal["trafilatura", "resiliparse"] | None = None
    """Take the main text out of text rows that are HTML, with this library (the extra `html`); a page without any
    becomes empty, and is counted."""

"""Bring text to one form: line ends, control characters, Unicode, and what else is asked for."""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, Literal

from data_prep.curation.normalise.config import Normalise
from data_prep.html_text import html_extractor, is_html
from data_prep.rows import Row

TEXT_FIELDS = ("text", "prompt", "completion", "messages", "chosen", "rejected")

# CR LF, CR, VT, FF, NEL, LS, PS: the newline functions of the Unicode Standard, §5.8.
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# In ASCII text nothing else can need a change; deleting from bytes is the fastest way to look for them.
_ASCII_CONTROLS = bytes([*range(9), *range(11, 32), 127])
# Soft hyphen, Arabic letter mark, Mongolian vowel separator, zero-width and bidirectional characters, tags.
_INVISIBLE = re.compile("[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
# Each match begins where its run does, so that a long run is looked at once.
_TRAILING = re.compile(r"(?<![ \t])[ \t]+(?=\n|\Z)")


class Normaliser:
    """An edit: the same text in one form. Twice the same as once, but for HTML whose text shows tags."""

    def __init__(self, config: Normalise) -> None:
        self.config = config

    def edit(self, row: Row) -> tuple[Row, dict[str, int]]:
        """The row in its one form, and how many changes were made; {} where it already had it.

        Kinds: `line_ends`, `control_characters` and `invisible` (characters), `unicode` (texts), `trailing_spaces`
        (lines), `blank_lines` (runs), `html` (pages), `html_empty` (of these, pages without text).
        """
        counts: Counter[str] = Counter()
        changed = {name: self._side(row[name], name, counts) for name in TEXT_FIELDS if name in row}
        if not counts:
            return row, {}
        return {**row, **changed}, dict(counts)

    def clean(self, text: str, counts: Counter[str]) -> str:
        """One text in its one form; what was changed is added to `counts`."""
        if not self._is_clean(text):
            text = _replace(_LINE_ENDS, "\n", text, "line_ends", counts)
            text = _replace(_CONTROLS, "", text, "control_characters", counts)
            if self.config.invisible == "remove":
                text = _replace(_INVISIBLE, "", text, "invisible", counts)
            if self.config.unicode and not unicodedata.is_normalized(self.config.unicode, text):
                before, text = text, _composed(self.config.unicode, text)
                if text != before:
                    counts["unicode"] += 1
        spaced = " \n" in text or "\t\n" in text
        if self.config.trailing_spaces == "remove" and (spaced or text[-1:] in (" ", "\t")):
            text = _replace(_TRAILING, "", text, "trailing_spaces", counts)
        if self._blank_lines and (spaced or "\n\n" in text):
            pattern, fewer = self._blank_lines
            text = _replace(pattern, fewer, text, "blank_lines", counts)
        return text

    def _side(self, side: Any, name: str, counts: Counter[str]) -> Any:
        if isinstance(side, list):
            return [{**turn, "content": self.clean(turn["content"], counts)} for turn in side]
        if name == "text" and self._extract and is_html(side):
            side = self._extract(side)
            counts.update(["html"] if side.strip() else ["html", "html_empty"])
        return self.clean(side, counts)

    @staticmethod
    def _is_clean(text: str) -> bool:
        if not text.isascii():
            return False
        content = text.encode()
        return len(content.translate(None, _ASCII_CONTROLS)) == len(content)

    @cached_property
    def _blank_lines(self) -> tuple[re.Pattern[str], str] | None:
        """A run of more blank lines than allowed, after the end of a line, and what stands in for it."""
        if self.config.max_blank_lines is None:
            return None
        most = self.config.max_blank_lines
        return re.compile(rf"(?<!\n)\n(?:[ \t]*\n){{{most + 1},}}"), "\n" * (most + 1)

    @cached_property
    def _extract(self) -> Callable[[str], str] | None:
        return html_extractor(self.config.html) if self.config.html else None


def _composed(form: Literal["NFC"], text: str) -> str:
    """The text in its normal form; runs of marks that no script has stay as they are: sorting them is quadratic."""
    pieces = _long_mark_runs().split(text)
    return "".join(piece if at % 2 else unicodedata.normalize(form, piece) for at, piece in enumerate(pieces))


@cache
def _long_mark_runs() -> re.Pattern[str]:
    """More than 30 combining marks in a row, the limit of the Stream-Safe Text Format (UAX #15, §13)."""
    marks = "".join(chr(code) for code in range(0x300, sys.maxunicode + 1) if unicodedata.combining(chr(code)))
    return re.compile(f"([{marks}]{{31,}})")


def _replace(pattern: re.Pattern[str], by: str, text: str, kind: str, counts: Counter[str]) -> str:
    text, count = pattern.subn(by, text)
    if count:
        counts[kind] += count
    return text

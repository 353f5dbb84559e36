"""The pieces of a text that a model reads, each by itself: an answer does not depend on what stands far away."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from data_prep.curation.pii.vocabulary import words

_ENDS = (re.compile(r"\n\s*\n|\n"), re.compile(r"[.!?][\"'”’)]?\s+(?=[^a-z])"), re.compile(r"\s+"))
_ESCAPED = re.compile(r"\\[nrt]")
# Half characters, which JSON can hold and no tokeniser takes.
_HALF = re.compile("[\ud800-\udfff]")
_NAME_LIKE = re.compile(r"[^\W\d_a-zß-öø-ÿ][^\W\d_][\w'’-]*")
_NUMBER = re.compile(r"[0-9]{2,}")
_CUES = re.compile(r"\b(?:name is|named|called|call me|i am|i'm|live in|lives in|from|address)\b", re.IGNORECASE)
# Words that stand at the beginning of many sentences and are nobody's name.
_OPENERS = frozenset(
    words(
        "the this that these those there here it its he she they we you his her their our your my who what when"
        " where why how which and but or nor so yet for if then than as at by in into on onto of off to from"
        " with without about after before during while because since until unless although though however also"
        " only just not no yes is are was were be been being do does did has have had can could will would shall"
        " should may might must let please thank thanks each every all any some many most much more other"
        " another such both either neither one two three four five six seven eight nine ten first second next"
        " last once again now today given find note answer question solution step example total finally"
        " therefore thus hence is an a i im ive dont cant sure hello hi dear sorry well ok okay"
    )
)


class Window(NamedTuple):
    """The characters text[start:end], as a model reads them."""

    start: int
    text: str
    """As long as the part of the text: an escaped line end is two line ends, half a character is U+FFFD."""


def windows(text: str, longest: int, candidates: bool) -> Iterator[Window]:
    """Pieces of at most `longest` characters that cover a text, or those of them that may hold somebody's data.

    They end at line ends, else at ends of sentences, else between words, else anywhere.
    """
    clean = _HALF.sub("\ufffd", _ESCAPED.sub("\n\n", text))
    start = 0
    while start < len(clean):
        end = _end(clean, start, longest)
        piece = clean[start:end]
        if not piece.isspace() and (not candidates or may_hold_names(piece)):
            yield Window(start, piece)
        start = end


def may_hold_names(piece: str) -> bool:
    """Whether a piece has a capitalised word that seldom opens sentences, a number, or words that announce a name."""
    if _NUMBER.search(piece) or _CUES.search(piece):
        return True
    return any(
        hit[0].casefold().replace("'", "").replace("’", "") not in _OPENERS for hit in _NAME_LIKE.finditer(piece)
    )


def _end(text: str, start: int, longest: int) -> int:
    limit = start + longest
    if limit >= len(text):
        return len(text)
    for pattern in _ENDS:
        # At least half a window, so that their number stays linear in the length.
        ends = [hit.end() for hit in pattern.finditer(text, start + longest // 2, limit) if hit.end() < limit]
        if ends:
            return ends[-1]
    return limit

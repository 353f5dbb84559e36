"""Word-level difference of two answers, for reading them side by side."""

import re
from difflib import SequenceMatcher
from typing import NamedTuple

# SequenceMatcher is quadratic: longer answers are compared as a whole
_MAX_WORDS = 600


class Span(NamedTuple):
    """A stretch of one answer; `unique` when the other answer does not have it there."""

    text: str
    unique: bool


def word_diff(base: str, tuned: str) -> tuple[list[Span], list[Span]]:
    """Both answers as spans; joined, each gives its answer back exactly."""
    left, right = _words(base), _words(tuned)
    if max(len(left), len(right)) > _MAX_WORDS:
        unique = base != tuned
        return [Span(base, unique)], [Span(tuned, unique)]
    matcher = SequenceMatcher(None, [word.strip() for word in left], [word.strip() for word in right], autojunk=False)
    spans_left, spans_right = [], []
    for kind, i, j, k, m in matcher.get_opcodes():
        spans_left += _spans("".join(left[i:j]), kind != "equal")
        spans_right += _spans("".join(right[k:m]), kind != "equal")
    return spans_left, spans_right


def _words(text: str) -> list[str]:
    """Words, each with the white space behind it."""
    return re.findall(r"\s+|\S+\s*", text)


def _spans(text: str, unique: bool) -> list[Span]:
    """One span, its trailing white space outside the highlight."""
    if not text:
        return []
    core = text.rstrip()
    if not unique or core == text or not core:
        return [Span(text, unique and bool(core))]
    return [Span(core, True), Span(text[len(core) :], False)]

"""The rules of C4 (Raffel et al. 2020) as datatrove computes them: lines are judged first, then what is left."""

import re
from dataclasses import dataclass, fields

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, Floats, sums, tokenise
from data_prep.curation.quality.characters import ENDS_C4_LINE
from data_prep.curation.quality.config import C4
from data_prep.curation.quality.gopher import ends_in_ellipsis
from data_prep.curation.quality.hashing import Ints
from data_prep.curation.quality.lexicon import JAVASCRIPT, PHRASE, Lexicon
from data_prep.curation.quality.lines import Lines
from data_prep.curation.quality.splits import BRACKET, CLOSES, CURLY, OPENS, RARE, SILENT

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
BLANK = ord(" ")


@dataclass
class _Lines:
    """[L] flags of lines: what C4 looks for."""

    terminal: Flags
    lorem: Flags
    javascript: Flags
    bracket: Flags
    policy: Flags
    sentences: Ints


def measure_c4(batch: Batch, lines: Lines, config: C4, lexicon: Lexicon) -> dict[str, Floats | Ints]:
    """[D] each: sentences of the lines that count, and how many of those hold "lorem ipsum" or a curly bracket.

    Uses the lexicon up: what it said about `batch` before is not valid any more.
    """
    starts, ends, bounds = lines.low, lines.high, lines.bounds
    runs = _Spans(np.searchsorted(batch.run_starts, starts), np.searchsorted(batch.run_starts, ends))
    counts = np.ones(len(starts), np.bool_)
    if config.max_word_length is not None:
        counts &= runs.count(_longer(batch, config.max_word_length)) == 0
    if config.min_words_per_line is not None:
        counts &= runs.last - runs.first >= config.min_words_per_line
    found = _look(batch, starts, ends)
    if config.remove_citations:
        changed = np.flatnonzero(runs.count(np.flatnonzero(batch.marks & BRACKET)))
        _look_again_without_citations(batch, starts, ends, changed, found, lexicon)
    if config.terminal_punctuation:
        counts &= found.terminal
    lorem = counts & found.lorem
    if config.no_javascript:
        counts &= ~found.javascript
    bracket = counts & found.bracket
    if config.no_policy:
        counts &= ~found.policy
    return {
        "c4_sentences": sums(found.sentences * counts, bounds),
        "c4_lorem_ipsum": sums(lorem, bounds),
        "c4_curly_brackets": sums(bracket, bounds),
    }


@dataclass
class _Spans:
    """[L] half-open spans of runs that ascend without overlap."""

    first: Ints
    last: Ints

    def count(self, runs: Ints) -> Ints:
        """[L] how many of the ascending runs each span holds."""
        return np.searchsorted(runs, self.last) - np.searchsorted(runs, self.first)


def _longer(batch: Batch, limit: int) -> Ints:
    long = np.flatnonzero(batch.run_ends - batch.run_starts > limit)
    return long[batch.count_characters(batch.run_starts[long], batch.run_ends[long]) > limit]


def _look(batch: Batch, starts: Ints, ends: Ints) -> _Lines:
    runs = _Spans(np.searchsorted(batch.run_starts, starts), np.searchsorted(batch.run_starts, ends))
    marks = batch.marks
    lorem, policy = np.zeros((2, len(starts)), np.bool_)
    # The words that begin a phrase are marked; the few lines that hold one are read.
    for line in np.flatnonzero(runs.count(np.flatnonzero(marks & PHRASE))).tolist():
        text = batch.text(int(starts[line]), int(ends[line])).lower()
        lorem[line] = "lorem ipsum" in text
        policy[line] = any(phrase in text for phrase in POLICY)
    return _Lines(
        terminal=(ends > starts)
        & ENDS_C4_LINE.take(batch.kinds[ends - 1])
        & ~ends_in_ellipsis(batch, starts, ends, False),
        lorem=lorem,
        javascript=runs.count(np.flatnonzero(marks & JAVASCRIPT)) > 0,
        bracket=runs.count(np.flatnonzero(marks & CURLY)) > 0,
        policy=policy,
        sentences=_sentences(batch, runs),
    )


def _look_again_without_citations(
    batch: Batch, starts: Ints, ends: Ints, lines: Ints, found: _Lines, lexicon: Lexicon
) -> None:
    """Lines that change when citations are removed are read anew, as a batch of their own."""
    numbers: list[int] = []
    changed: list[str] = []
    for number in lines.tolist():
        line = batch.text(int(starts[number]), int(ends[number]))
        without = CITATION.sub("", line)
        if without != line:
            numbers.append(number)
            changed.append(without)
    if not changed:
        return
    second = tokenise(changed, lexicon)
    again = _look(second, second.starts, second.ends)
    for field in fields(_Lines):
        getattr(found, field.name)[numbers] = getattr(again, field.name)


def _sentences(batch: Batch, runs: _Spans) -> Ints:
    """[L] sentences as spaCy's sentencizer counts them: one ends at a full stop, after the punctuation behind it."""
    # Space other than one blank is a word of its own to spaCy: it too begins a sentence.
    wide = np.zeros(len(batch.marks), np.bool_)
    wide[1:] = batch.run_starts[1:] - batch.run_ends[:-1] != 1
    wide[1:] |= batch.kinds.take(batch.run_ends[:-1]) != BLANK
    heard = np.flatnonzero(((batch.marks & SILENT) == 0) | wide)
    marks, spaced = batch.marks.take(heard), wide.take(heard)
    begins = ((marks[1:] & OPENS) != 0) | spaced[1:]
    begins &= (marks[:-1] & CLOSES) != 0
    begins = heard[1:][begins]
    first_heard = heard.take(np.searchsorted(heard, runs.first), mode="clip") if len(heard) else runs.first
    # What begins with a line's own first word does not divide the line.
    own = (runs.last > first_heard) & _among(begins, first_heard)
    rare = np.flatnonzero(batch.marks & RARE)
    inside = np.concatenate([[0], np.cumsum(batch.lexicon.rare.values[batch.numbers[rare], 0], dtype=np.int64)])
    within = inside[np.searchsorted(rare, runs.last)] - inside[np.searchsorted(rare, runs.first)]
    return 1 + runs.count(begins) - own + within


def _among(ascending: Ints, values: Ints) -> Flags:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    return ascending.take(np.searchsorted(ascending, values), mode="clip") == values

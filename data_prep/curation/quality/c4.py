"""The rules of C4 (Raffel et al. 2020) as datatrove computes them: lines are judged first, then what is left."""

import re
from dataclasses import dataclass

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, Floats, Ints, sums, tokenise
from data_prep.curation.quality.characters import ENDS_C4_LINE
from data_prep.curation.quality.config import C4
from data_prep.curation.quality.gopher import ends_in_ellipsis
from data_prep.curation.quality.lexicon import ENDS_SENTENCE, PUNCTUATES, Lexicon
from data_prep.curation.quality.lines import split_lines, stripped

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICY = (b"terms of use", b"privacy policy", b"cookie policy", b"uses cookies", b"use of cookies", b"use cookies")


@dataclass
class _Lines:
    """[L] flags of lines: what C4 looks for."""

    terminal: Flags
    lorem: Flags
    javascript: Flags
    bracket: Flags
    policy: Flags
    sentences: Ints


def measure_c4(batch: Batch, config: C4, lexicon: Lexicon) -> dict[str, Floats | Ints]:
    """[D] each: sentences of the lines that count, and how many of those hold "lorem ipsum" or a curly bracket."""
    starts, ends, bounds = split_lines(batch)
    starts, ends = stripped(batch, starts, ends)
    first = np.searchsorted(batch.chunk_starts, starts)
    words = np.searchsorted(batch.chunk_starts, ends) - first
    counts = np.ones(len(starts), np.bool_)
    if config.max_word_length is not None:
        long = batch.chunk_starts[batch.chunk_ends - batch.chunk_starts > config.max_word_length]
        counts &= np.searchsorted(long, ends) == np.searchsorted(long, starts)
    found = _look(batch, starts, ends)
    if config.remove_citations:
        _look_again_without_citations(batch, starts, ends, found, lexicon)
    if config.terminal_punctuation:
        counts &= found.terminal
    if config.min_words_per_line is not None:
        counts &= words >= config.min_words_per_line
    lorem = counts & found.lorem & config.no_lorem_ipsum
    if config.no_javascript:
        counts &= ~found.javascript
    bracket = counts & found.bracket & config.no_curly_bracket
    if config.no_policy:
        counts &= ~found.policy
    return {
        "c4_sentences": sums(found.sentences * counts, bounds),
        "c4_lorem_ipsum": sums(lorem, bounds),
        "c4_curly_brackets": sums(bracket, bounds),
    }


def _look(batch: Batch, starts: Ints, ends: Ints) -> _Lines:
    lower = batch.kinds.tobytes()
    final = batch.kinds[np.maximum(ends - 1, 0)]
    return _Lines(
        terminal=(ends > starts) & ENDS_C4_LINE.take(final) & ~ends_in_ellipsis(batch, starts, ends, False),
        lorem=_mentions(lower, (b"lorem ipsum",), starts, ends),
        javascript=_mentions(lower, (b"javascript",), starts, ends),
        bracket=_mentions(lower, (b"{",), starts, ends),
        policy=_mentions(lower, POLICY, starts, ends),
        sentences=_sentences(batch, starts, ends),
    )


def _look_again_without_citations(batch: Batch, starts: Ints, ends: Ints, found: _Lines, lexicon: Lexicon) -> None:
    """Lines that change when citations are removed are read anew, as a batch of their own."""
    numbers: list[int] = []
    changed: list[str] = []
    for number in np.flatnonzero(_mentions(batch.kinds.tobytes(), (b"[",), starts, ends)).tolist():
        line = batch.text[starts[number] : ends[number]]
        without = CITATION.sub("", line)
        if without != line:
            numbers.append(number)
            changed.append(without)
    if not changed:
        return
    second = tokenise(changed, lexicon)
    again = _look(second, second.starts, second.ends)
    for field in ("terminal", "lorem", "javascript", "bracket", "policy", "sentences"):
        getattr(found, field)[numbers] = getattr(again, field)


def _mentions(lower: bytes, phrases: tuple[bytes, ...], starts: Ints, ends: Ints) -> Flags:
    """Whether a phrase stands in each of the ascending spans."""
    flags = np.zeros(len(starts), np.bool_)
    for phrase in phrases:
        places = np.asarray(_places(lower, phrase), np.int64)
        if len(places):
            lines = np.searchsorted(starts, places, side="right") - 1
            inside = (lines >= 0) & (places + len(phrase) <= ends[lines])
            flags[lines[inside]] = True
    return flags


def _places(text: bytes, phrase: bytes) -> list[int]:
    places: list[int] = []
    place = text.find(phrase)
    while place >= 0:
        places.append(place)
        place = text.find(phrase, place + 1)
    return places


def _sentences(batch: Batch, starts: Ints, ends: Ints) -> Ints:
    """[L] sentences as spaCy's sentencizer counts them: one ends at a full stop, after the punctuation behind it."""
    chunks = np.searchsorted(batch.chunk_starts, starts), np.searchsorted(batch.chunk_starts, ends)
    first, last = batch.chunk_words[chunks[0]], batch.chunk_words[chunks[1]]
    ends_sentence = (batch.flags & ENDS_SENTENCE) != 0
    silent = ((batch.flags & PUNCTUATES) != 0) & ~ends_sentence
    spaced = _follows_wide_space(batch)
    events = (~silent).astype(np.int64) + spaced
    # Space other than one blank is a word of its own to spaCy: it too begins a sentence.
    word = np.repeat(np.arange(len(batch.words)), events)
    stops = ends_sentence[word]
    stops[(np.cumsum(events) - events)[spaced]] = False
    begins = np.zeros(len(word) + 1, np.int64)
    begins[1:][1:] = ~stops[1:] & stops[:-1] if len(word) else 0
    totals = np.cumsum(begins)
    event_bounds = np.concatenate([[0], np.cumsum(events)])
    low, high = event_bounds[first], event_bounds[last]
    # What begins with a line's own first event does not divide the line.
    own = np.where(high > low, begins[np.minimum(low + 1, len(begins) - 1)], 0)
    return 1 + np.maximum(totals[high] - totals[low] - own, 0)


def _follows_wide_space(batch: Batch) -> Flags:
    """[W] whether a word's run follows something else than one blank."""
    spaced = np.zeros(len(batch.words), np.bool_)
    starts, ends = batch.chunk_starts[1:], batch.chunk_ends[:-1]
    wide = (starts - ends != 1) | (batch.codes[starts - 1] != ord(" "))
    spaced[batch.chunk_words[1:-1][wide]] = True
    return spaced

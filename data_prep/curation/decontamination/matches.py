"""What a row holds of the items: verified on the words themselves, with the place in the row."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.index import Index
from data_prep.curation.decontamination.search import Places, counted_hits, counted_words, find
from data_prep.curation.decontamination.text import clean, origins, word_spans, words_in
from data_prep.curation.near_dedup.words import Positions, words_of

SMALLEST_SHARE = 0.5
SMALLEST_HITS = 20
"""Matches below both are not noted; the limits cannot be set lower."""
SHOWN = 300
"""Characters of the matched text that are noted."""
EDGE = 5
"""Words beyond the ends of a match whose numbers count too: another number may be why it ends there."""
BATCH_CHARACTERS = 2_000_000

_OPENS = re.compile(r"""(?:^|[\n.:;?!>|*#,()\[\]{}-])[ \t"“”«»`*_]*$""")
_CLOSES = re.compile(r"""[ \t"“”«»`*_]*(?:$|[\n.:;?!<|,()\[\]{}-])""")


class Match(NamedTuple):
    """One unit of the index in one text."""

    unit: int
    dataset: str
    item: str
    side: str
    share: float
    """Of the unit's words that are no boilerplate, how much is found, by weight."""
    hits: int
    """Its n-grams that are found."""
    start: int
    end: int
    """Characters of the text that the match spans."""
    text: str
    """That span, at most SHOWN characters."""
    runs: list[int]
    """First word and number of words of each run of the unit that is found: [first, words, first, words, …]."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Stronger matches first."""
        return -self.share, -self.hits, self.dataset, self.item, self.side, self.start


class Found(NamedTuple):
    """What a batch of texts holds."""

    matches: list[list[Match]]
    """Per text, the strongest first, one per unit."""
    grams: list[Positions]
    """Per text, the n-grams of the index that it has, sorted."""


def search(texts: Sequence[str], index: Index, config: Decontamination) -> Found:
    """Find the items of the index in the texts, batch by batch."""
    found, start = Found([], []), 0
    while start < len(texts):
        end, characters = start, 0
        while end < len(texts) and (end == start or characters + len(texts[end]) <= BATCH_CHARACTERS):
            characters += len(texts[end])
            end += 1
        matches, grams = _search(texts[start:end], index, config)
        found.matches.extend(matches)
        found.grams.extend(grams)
        start = end
    return found


def measured(index: Index, unit: int, runs: list[int], dropped: NDArray[np.bool_] | None) -> tuple[float, int]:
    """Share and hits of a match; `dropped`: per n-gram, whether the training rows show it to be boilerplate."""
    matched = _mask(runs, int(index.unit_lengths[unit]))
    counted = counted_words(index, unit, dropped)
    weights = index.unit_weights(unit) * counted
    share = float(weights[matched].sum() / weights.sum()) if counted.any() else 0.0
    question = int(index.arrays["questions"][unit])
    if question:
        weights = index.unit_weights(unit)[:question]
        share = min(share, float(weights[matched[:question]].sum() / weights.sum()))
        if share < SMALLEST_SHARE:
            return share, 0
    return share, counted_hits(index, unit, matched, dropped)


def _search(texts: Sequence[str], index: Index, config: Decontamination) -> Found:
    cleaned = [clean(text) for text in texts]
    words = words_of(cleaned)
    hits, places = find(words, index)
    bounds = np.searchsorted(hits.texts, np.arange(len(texts) + 1))
    new = np.concatenate(([True], (np.diff(hits.grams) != 0) | (np.diff(hits.texts) != 0)))[: len(hits.grams)]
    grams = [
        hits.grams[start:end][new[start:end]]
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    matches: list[list[Match]] = [[] for _ in texts]
    for text, candidates in _promising(places, index, words.offsets).items():
        row = _Text(texts[text], cleaned[text])
        found = (row.match(index, config, *candidate) for candidate in candidates)
        best: dict[int, Match] = {}
        for match in sorted((match for match in found if match), key=lambda match: match.order):
            best.setdefault(match.unit, match)
        matches[text] = list(best.values())
    return Found(matches, grams)


def _promising(places: Places, index: Index, offsets: Positions) -> dict[int, list[tuple[int, Positions, Positions]]]:
    """By text: (unit, its words, words of the text) of the candidates that are worth noting, by their hashes."""
    found = dict[int, list[tuple[int, Positions, Positions]]]()
    bounds = np.searchsorted(places.matched[:, 0], np.arange(len(places.units) + 1))
    sizes = np.diff(bounds)
    # Cheap first: a share of the words as small as can be, of whatever weight, or as many as the hits that count.
    enough = 5 * sizes >= np.minimum(index.unit_lengths[places.units], 5 * SMALLEST_HITS)
    for candidate in np.flatnonzero(enough).tolist():
        text, unit = int(places.texts[candidate]), int(places.units[candidate])
        lines = places.matched[bounds[candidate] : bounds[candidate + 1]]
        there = lines[:, 1] - index.arrays["offsets"][unit]
        found.setdefault(text, []).append((unit, there, lines[:, 2] - offsets[text]))
    return found


class _Text:
    """A text with its words, split only when something was found in it."""

    def __init__(self, text: str, cleaned: str) -> None:
        self._text, self._cleaned = text, cleaned
        self._starts, self._ends = word_spans(cleaned)
        self._origins: Positions | None = None

    def match(
        self, index: Index, config: Decontamination, unit: int, there: Positions, here: Positions
    ) -> Match | None:
        """The match, if its words are equal and the rules on short items and numbers hold."""
        item_words = index.unit_words(unit)
        equal = np.array(
            [item_words[a] == b for a, b in zip(there.tolist(), self._words(here), strict=True)], dtype=bool
        )
        there, here = there[equal], here[equal]
        if not len(there):
            return None
        runs = _runs(there)
        share, hits = measured(index, unit, runs, None)
        if share < SMALLEST_SHARE and hits < SMALLEST_HITS:
            return None
        start, end = int(self._starts[here.min()]), int(self._ends[here.max()])
        whole = runs == [0, len(item_words)] and self._stands_alone(start, end)
        if len(there) < config.whole_below and not whole:
            return None
        if _number_share(item_words, there) < config.min_number_share:
            return None
        start, end = self._original(start, end)
        return Match(unit, *index.names[unit], share, hits, start, end, self._text[start:end][:SHOWN], runs)

    def _words(self, here: Positions) -> list[str]:
        return words_in(self._cleaned, (self._starts[here], self._ends[here]))

    def _stands_alone(self, start: int, end: int) -> bool:
        before, after = self._cleaned[max(start - 20, 0) : start], self._cleaned[end : end + 20]
        return bool(_OPENS.search(before)) and bool(_CLOSES.match(after))

    def _original(self, start: int, end: int) -> tuple[int, int]:
        if self._cleaned == self._text:
            return start, end
        if self._origins is None:
            self._origins = origins(self._text)
        return int(self._origins[start]), max(int(self._origins[end - 1]) + 1, int(self._origins[start]) + 1)


def _number_share(item_words: list[str], there: Positions) -> float:
    """Share of the numbers between the first and the last matched word, and a little beyond, that are matched."""
    inside = range(max(int(there.min()) - EDGE, 0), min(int(there.max()) + 1 + EDGE, len(item_words)))
    numbers = [at for at in inside if any(map(str.isdigit, item_words[at]))]
    return len(set(numbers) & set(there.tolist())) / len(numbers) if numbers else 1.0


def _runs(there: Positions) -> list[int]:
    begins = np.flatnonzero(np.concatenate(([True], np.diff(there) > 1)))
    sizes = np.diff(np.append(begins, len(there)))
    return np.column_stack((there[begins], sizes)).ravel().tolist()


def _mask(runs: list[int], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, dtype=bool)
    for first, size in zip(runs[::2], runs[1::2], strict=True):
        mask[first : first + size] = True
    return mask

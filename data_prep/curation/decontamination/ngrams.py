"""Hashes of word n-grams at each place of a batch of texts."""

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.words import LAST_FACTOR, STEP_FACTOR, Hashes, Positions, Words


def ngrams(words: Words, n: int) -> Hashes:
    """The hash of the n words from each place on, 0 … words - n; those that cross the end of a text mean nothing."""
    total = max(len(words.hashes) - n + 1, 0)
    hashes = np.full(total, _factor(n), dtype=np.uint64)
    for place in range(n):
        hashes += words.hashes[place : place + total] * _factor(place)
    return hashes


def within_text(words: Words, n: int, places: Positions) -> tuple[NDArray[np.bool_], Positions]:
    """Whether the n words from each place on stand in one text, and which text it is."""
    texts = np.searchsorted(words.offsets, places, side="right") - 1
    return places + n <= words.offsets[texts + 1], texts


def _factor(place: int) -> np.uint64:
    """An odd factor per place, so that the order of the words counts."""
    return np.uint64((int(LAST_FACTOR) * (2 * place + 3) ** 9 + int(STEP_FACTOR) * (place + 1)) % 2**64 | 1)

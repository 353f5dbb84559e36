"""Gopher's document statistics (Rae et al. 2021, section A1.1), as datatrove computes them."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, Floats, reduced, share, sums
from data_prep.curation.quality.characters import BULLET, ELLIPSIS
from data_prep.curation.quality.hashing import Ints
from data_prep.curation.quality.lexicon import STOP_WORDS
from data_prep.curation.quality.lines import Lines
from data_prep.curation.quality.splits import RARE

_LOW = np.uint64(0xFFFFFFFF)


def measure_gopher(batch: Batch, lines: Lines) -> dict[str, Floats | Ints]:
    """[D] each: words, mean word length, symbols per word, bullet and ellipsis lines, letters, stop words."""
    bounds, known = batch.document_runs, batch.lexicon
    every = np.diff(batch.document_words)
    proper = sums(known.proper.values.take(batch.numbers), bounds)
    words = (proper >> np.uint64(32)).astype(np.int64)
    stops = reduced(np.bitwise_or, batch.marks, bounds, np.uint16)
    rare = np.flatnonzero(batch.marks & RARE)
    counts = np.zeros((len(every), 3), np.int64)
    np.add.at(counts, batch.document_of_runs(rare), known.rare.values[batch.numbers[rare]])
    return {
        "words": words,
        "mean_word_length": share(proper & _LOW, words),
        "hashes_per_word": share(counts[:, 1], every),
        "ellipses_per_word": share(counts[:, 2], every),
        **_line_shares(batch, lines),
        "alphabetic_words": share(sums(known.alphabetic.values.take(batch.numbers), bounds), every),
        "stop_words": np.bitwise_count(stops & ((1 << len(STOP_WORDS)) - 1)).astype(np.int64),
    }


def _line_shares(batch: Batch, lines: Lines) -> dict[str, Floats]:
    first, last, bounds = lines.low, lines.high, lines.bounds
    filled = last > first
    opening = batch.kinds[first]
    bullets = filled & ((opening == BULLET) | (opening == ord("-")))
    count = np.diff(bounds)
    return {
        "bullet_lines": share(sums(bullets, bounds), count),
        "ellipsis_lines": share(sums(filled & ends_in_ellipsis(batch, first, last, True), bounds), count),
    }


def ends_in_ellipsis(batch: Batch, starts: Ints, ends: Ints, character: bool) -> Flags:
    """Whether spans end in "..." or, where `character` is set, in "…"."""
    kinds = batch.kinds
    final = kinds[ends - 1]
    dots = (ends - starts >= 3) & (final == ord("."))
    for back in (2, 3):
        dots &= kinds[np.maximum(ends - back, 0)] == ord(".")
    return dots | ((ends > starts) & (final == ELLIPSIS)) if character else dots

"""Gopher's document statistics (Rae et al. 2021, section A1.1), as datatrove computes them."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, Floats, Ints, counted, share, sums
from data_prep.curation.quality.characters import BULLET, ELLIPSIS
from data_prep.curation.quality.lexicon import ALPHABETIC, FIRST_STOP_BIT, STOP_WORDS, SYMBOL
from data_prep.curation.quality.lines import split_lines, stripped


def measure_gopher(batch: Batch) -> dict[str, Floats | Ints]:
    """[D] each: words, mean word length, symbols per word, bullet and ellipsis lines, letters, stop words."""
    bounds = batch.document_words
    every = np.diff(bounds)
    proper = (batch.flags & SYMBOL) == 0
    words = sums(proper, bounds)
    hashes = np.flatnonzero(batch.kinds == ord("#"))
    stops = [sums((batch.flags >> (FIRST_STOP_BIT + i)) & 1, bounds) > 0 for i in range(len(STOP_WORDS))]
    return {
        "words": words,
        "mean_word_length": share(sums(batch.lengths * proper, bounds), words),
        "hashes_per_word": share(counted(hashes, batch.starts, batch.ends), every),
        "ellipses_per_word": share(_ellipses(batch), every),
        **_line_shares(batch),
        "alphabetic_words": share(sums((batch.flags & ALPHABETIC) != 0, bounds), every),
        "stop_words": np.stack(stops).sum(axis=0, dtype=np.int64),
    }


def _ellipses(batch: Batch) -> Ints:
    """[D] "…" and, without overlap, "..."."""
    single = np.flatnonzero(batch.kinds == ELLIPSIS)
    dots = np.flatnonzero(batch.kinds == ord("."))
    runs = np.flatnonzero(np.diff(dots, prepend=-2) != 1)
    triples = np.concatenate([[0], np.cumsum(np.diff(np.append(runs, len(dots))) // 3)])
    first, last = np.searchsorted(dots[runs], batch.starts), np.searchsorted(dots[runs], batch.ends)
    return triples[last] - triples[first] + counted(single, batch.starts, batch.ends)


def _line_shares(batch: Batch) -> dict[str, Floats]:
    starts, ends, bounds = split_lines(batch)
    first, last = stripped(batch, starts, ends)
    filled = last > first
    kinds = batch.kinds
    opening = kinds[np.minimum(first, len(kinds) - 1)]
    bullets = filled & ((opening == BULLET) | (opening == ord("-")))
    count = np.diff(bounds)
    return {
        "bullet_lines": share(sums(bullets, bounds), count),
        "ellipsis_lines": share(sums(filled & ends_in_ellipsis(batch, first, last, True), bounds), count),
    }


def ends_in_ellipsis(batch: Batch, starts: Ints, ends: Ints, character: bool) -> Flags:
    """Whether spans end in "..." or, where `character` is set, in "…"."""
    kinds = batch.kinds
    dots = ends - starts >= 3
    for back in (1, 2, 3):
        dots &= kinds[np.maximum(ends - back, 0)] == ord(".")
    return dots | ((ends > starts) & (kinds[np.maximum(ends - 1, 0)] == ELLIPSIS)) if character else dots

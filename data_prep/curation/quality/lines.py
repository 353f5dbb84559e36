"""Where lines and paragraphs begin and end, by the several notions of a line that the rules have."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Ints, span_numbers, sums
from data_prep.curation.quality.characters import IS_LINE_BREAK
from data_prep.curation.quality.lexicon import mixed

NEWLINE, RETURN = 10, 13


def split_lines(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [L] of the lines of str.splitlines, and each document's first line [D + 1]."""
    breaks = np.flatnonzero(IS_LINE_BREAK.take(batch.kinds))
    final = np.zeros(len(batch.codes), np.bool_)
    final[batch.ends] = True
    kinds = batch.kinds
    # The line break of "\r\n" is its "\n", where both belong to the document.
    pair = (kinds[breaks] == NEWLINE) & (breaks > 0) & (kinds[breaks - 1] == RETURN) & ~final[breaks]
    breaks_ends = breaks - pair
    opening = np.append(pair[1:], False) & ~final[breaks]
    breaks, ends = breaks[~opening], breaks_ends[~opening]
    starts = np.concatenate([[0], breaks[:-1] + 1])[: len(breaks)]
    # A document that ends in a line break, or is empty, has no line after it.
    kept = ~(final[breaks] & (starts == ends))
    starts, ends = starts[kept], ends[kept]
    return starts, ends, np.searchsorted(starts, np.append(batch.starts, len(batch.codes)))


def newline_segments(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [S] of what stands between "\\n", empty ones too, and each document's first one [D + 1]."""
    ends = np.flatnonzero(batch.kinds == NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    return starts, ends, np.searchsorted(starts, np.append(batch.starts, len(batch.codes)))


def paragraphs(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [P] of the paragraphs (divided by empty lines) of the stripped documents, and their bounds."""
    low, high = stripped(batch, batch.starts, batch.ends)
    newline = np.zeros(len(batch.codes) + 1, np.int8)
    newline[:-1] = batch.kinds == NEWLINE
    edges = np.flatnonzero(np.diff(newline, prepend=0))
    begins, stops = edges[::2], edges[1::2]
    document = np.searchsorted(batch.starts, begins, side="right") - 1
    inside = (stops - begins >= 2) & (begins > low[document]) & (stops < high[document])
    starts = np.sort(np.concatenate([low, stops[inside]]), kind="stable")
    ends = np.sort(np.concatenate([high, begins[inside]]), kind="stable")
    return starts, ends, np.searchsorted(starts, np.append(low, len(batch.codes) + 1))


def stripped(batch: Batch, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The spans without space at their ends; a blank span becomes an empty one at its start."""
    first = np.searchsorted(batch.chunk_ends, starts, side="right")
    last = np.searchsorted(batch.chunk_starts, ends) - 1
    filled = last >= first
    if not len(batch.chunk_starts):
        return starts, starts
    low = batch.chunk_starts[np.minimum(first, len(batch.chunk_starts) - 1)]
    high = batch.chunk_ends[np.maximum(last, 0)]
    return np.where(filled, np.maximum(low, starts), starts), np.where(filled, np.minimum(high, ends), starts)


def repeated(batch: Batch, starts: Ints, ends: Ints, document: Ints) -> np.ndarray:
    """[N] flags: whether the same span stood before in its document."""
    numbers = span_numbers(batch.codes, starts, ends)
    keys = mixed(numbers) + mixed(~document)
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), np.bool_)
    again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return again


def repeated_counts(batch: Batch, starts: Ints, ends: Ints, bounds: Ints) -> tuple[Ints, Ints]:
    """[D] spans that stood before in their document, and [D] their characters."""
    document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    again = repeated(batch, starts, ends, document)
    return sums(again, bounds), sums((ends - starts) * again, bounds)

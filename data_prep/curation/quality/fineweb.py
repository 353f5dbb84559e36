"""The rules that FineWeb added (Penedo et al. 2024), as datatrove computes them."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Floats, Ints, share, sums
from data_prep.curation.quality.characters import IS_TERMINAL
from data_prep.curation.quality.config import FineWeb
from data_prep.curation.quality.lines import newline_segments, repeated_counts, stripped


def measure_fineweb(batch: Batch, config: FineWeb) -> dict[str, Floats | Ints]:
    """[D] each: lines that are not blank, the punctuated, short and repeated among them, line breaks per word."""
    starts, ends, bounds = newline_segments(batch)
    breaks = np.diff(bounds) - 1
    low, high = stripped(batch, starts, ends)
    filled = high > low
    bounds = np.concatenate([[0], np.cumsum(filled)])[bounds]
    starts, ends = starts[filled], ends[filled]
    lines = np.diff(bounds)
    repeated = repeated_counts(batch, starts, ends, bounds)[1]
    return {
        "lines": lines,
        "punctuated_lines": share(sums(IS_TERMINAL.take(batch.kinds[ends - 1]), bounds), lines),
        "short_lines": share(sums(ends - starts <= config.short_line_length, bounds), lines),
        "repeated_line_characters": share(repeated, batch.characters - breaks),
        "newlines_per_word": share(breaks, np.diff(batch.document_words)),
    }

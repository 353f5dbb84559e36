"""The rules that FineWeb added (Penedo et al. 2024), as datatrove computes them."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Floats, share, sums
from data_prep.curation.quality.characters import IS_TERMINAL
from data_prep.curation.quality.config import FineWeb
from data_prep.curation.quality.hashing import Ints
from data_prep.curation.quality.lines import Segments


def measure_fineweb(batch: Batch, segments: Segments, config: FineWeb) -> dict[str, Floats | Ints]:
    """[D] each: lines that are not blank, the punctuated, short and repeated among them, line breaks per word."""
    starts, ends = segments.starts, segments.ends
    filled = np.searchsorted(batch.run_starts, ends) > np.searchsorted(batch.run_ends, starts, side="right")
    bounds, breaks = segments.bounds, segments.breaks
    lines = sums(filled, bounds)
    repeated = sums(segments.characters * (filled & segments.repeats), bounds)
    short = filled & (segments.characters <= config.short_line_length)
    return {
        "lines": lines,
        "punctuated_lines": share(sums(filled & IS_TERMINAL.take(batch.kinds[ends - 1]), bounds), lines),
        "short_lines": share(sums(short, bounds), lines),
        "repeated_line_characters": share(repeated, batch.characters - breaks),
        "newlines_per_word": share(breaks, np.diff(batch.document_words)),
    }

"""Where lines and paragraphs begin and end, by the several notions of a line that the rules have."""

from dataclasses import dataclass

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, counted
from data_prep.curation.quality.characters import OTHER_LINE_BREAKS
from data_prep.curation.quality.hashing import Ints, mixed

NEWLINE, RETURN = 10, 13


@dataclass(frozen=True)
class Lines:
    """The lines of a batch, which several rules look at."""

    starts: Ints
    """[L] first byte of each line of str.splitlines."""
    ends: Ints
    """[L] the byte after its last."""
    bounds: Ints
    """[D + 1] first line of each document."""
    low: Ints
    """[L] the line without space at its ends: first byte."""
    high: Ints
    """[L] the byte after its last."""


def lines_of(batch: Batch) -> Lines:
    """The lines of str.splitlines."""
    starts, ends, bounds = split_lines(batch)
    return Lines(starts, ends, bounds, *stripped(batch, starts, ends))


@dataclass(frozen=True)
class Segments:
    """What stands between "\\n" and is not empty."""

    starts: Ints
    """[S] first byte of each."""
    ends: Ints
    """[S] the byte after its last."""
    bounds: Ints
    """[D + 1] first one of each document."""
    breaks: Ints
    """[D] line breaks in each document."""
    repeats: Flags
    """[S] whether the same one stood before in its document."""
    characters: Ints
    """[S] characters of each."""


def segments_of(batch: Batch) -> Segments:
    """The segments of a batch, with their repetitions."""
    starts, ends, bounds = newline_segments(batch)
    filled = ends > starts
    kept = np.concatenate([[0], np.cumsum(filled)])[bounds]
    breaks = np.diff(bounds) - 1
    starts, ends = starts[filled], ends[filled]
    again = repeated(batch, starts, ends, kept)
    return Segments(starts, ends, kept, breaks, again, batch.count_characters(starts, ends))


def split_lines(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [L] of the lines of str.splitlines, and each document's first line [D + 1]."""
    text = batch.kinds.tobytes() if len(batch.continuations) else batch.joined
    others = [character[0] for character in OTHER_LINE_BREAKS if character in text]
    if others:
        starts, ends = _between_breaks(batch, others)
        bounds = _bounds(batch, starts)
    else:
        starts, ends, bounds = newline_segments(batch)
    # A document that ends in a line break, or is empty, has no line after it.
    last = bounds[1:] - 1
    kept = np.ones(len(starts), np.bool_)
    kept[last] = starts[last] < ends[last]
    return starts[kept], ends[kept], np.concatenate([[0], np.cumsum(kept)])[bounds]


def newline_segments(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [S] of what stands between "\\n", empty ones too, and each document's first one [D + 1]."""
    starts, ends = batch.newlines[:-1] + 1, batch.newlines[1:]
    return starts, ends, _bounds(batch, starts)


def paragraphs(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """Starts and ends [P] of the paragraphs (divided by empty lines) of the stripped documents, and their bounds."""
    low, high = stripped(batch, batch.starts, batch.ends)
    lines = batch.newlines
    first = np.flatnonzero(np.diff(lines, prepend=-2) != 1)
    begins, stops = lines[first], lines[np.append(first[1:], len(lines)) - 1] + 1
    begins, stops = begins[stops - begins >= 2], stops[stops - begins >= 2]
    document = np.maximum(np.searchsorted(batch.starts, begins, side="right") - 1, 0)
    inside = (begins > low[document]) & (stops < high[document])
    starts = np.sort(np.concatenate([low, stops[inside]]), kind="stable")
    ends = np.sort(np.concatenate([high, begins[inside]]), kind="stable")
    return starts, ends, _bounds(batch, starts)


def stripped(batch: Batch, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The spans without space at their ends; a blank span becomes an empty one at its start."""
    first = np.searchsorted(batch.run_ends, starts, side="right")
    last = np.searchsorted(batch.run_starts, ends) - 1
    filled = last >= first
    if not len(batch.run_starts):
        return starts, starts
    low = batch.run_starts[np.minimum(first, len(batch.run_starts) - 1)]
    high = batch.run_ends[np.maximum(last, 0)]
    return np.where(filled, np.maximum(low, starts), starts), np.where(filled, np.minimum(high, ends), starts)


def repeated(batch: Batch, starts: Ints, ends: Ints, bounds: Ints) -> Flags:
    """[N] flags: whether the same span stood before in its document."""
    document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    keys = batch.span_keys(starts, ends) + mixed(ends - starts) + mixed(~document)
    order = np.argsort(keys)
    same = keys[order[1:]] == keys[order[:-1]]
    twin = np.zeros(len(keys), np.bool_)
    twin[order[1:]] = same
    twin[order[:-1]] |= same
    again = np.zeros(len(keys), np.bool_)
    seen: set[tuple[int, bytes]] = set()
    places = np.flatnonzero(twin)
    spans = zip(places.tolist(), document[places].tolist(), starts[places].tolist(), ends[places].tolist(), strict=True)
    for place, owner, start, end in spans:
        span = (owner, batch.joined[start:end])
        if span in seen:
            again[place] = True
        seen.add(span)
    return again


def _between_breaks(batch: Batch, others: list[int]) -> tuple[Ints, Ints]:
    places = np.sort(np.concatenate([batch.newlines, *(np.flatnonzero(batch.kinds == kind) for kind in others)]))
    buffer = np.frombuffer(batch.joined, np.uint8)
    leads = buffer[places]
    places, leads = places[(leads & 0xC0) != 0x80], leads[(leads & 0xC0) != 0x80]
    widths = np.where(leads < 0x80, 1, np.where(leads < 0xE0, 2, 3))
    final = counted(batch.ends, places, places + 1) > 0
    # The line break of "\r\n" is its "\n", where both belong to the document.
    pair = (leads == NEWLINE) & (buffer[places - 1] == RETURN) & ~final & (places > 0)
    opening = np.append(pair[1:], False)
    kept = ~opening
    return (places + widths)[kept][:-1], (places - pair)[kept][1:]


def _bounds(batch: Batch, starts: Ints) -> Ints:
    return np.searchsorted(starts, np.append(batch.starts, len(batch.joined)))

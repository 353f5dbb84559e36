"""Gopher's repetition measures (Rae et al. 2021, table A1), as datatrove computes them."""

import numpy as np

from data_prep.curation.quality.batch import Batch, Flags, Floats, Ints, share
from data_prep.curation.quality.lexicon import BASE, Hashes, inverse_powers, mixed, powers
from data_prep.curation.quality.lines import NEWLINE, newline_segments, paragraphs, repeated_counts

TOP, DUPLICATE = range(2, 5), range(5, 11)


def measure_repetition(batch: Batch) -> dict[str, Floats | Ints]:
    """[D] each: repeated lines and paragraphs (by number and by characters), and repeated n-grams by characters."""
    characters = batch.characters
    document = np.repeat(np.arange(len(batch.starts)), np.diff(batch.document_words))
    measures: dict[str, Floats | Ints] = dict(_line_shares(batch))
    salt = mixed(np.arange(len(batch.starts))).take(document)
    offsets = np.concatenate([[0], np.cumsum(batch.lengths)])
    spread = mixed(batch.words)
    number_keys = salt
    for n in range(1, TOP.stop):
        # Neighbouring words and their document: Σ mixed(word)·BASEⁱ, one word more in every round.
        number_keys = number_keys[: max(len(spread) - n + 1, 0)] * np.uint64(BASE) + spread[n - 1 :]
        if n in TOP:
            measures[f"top_{n}gram"] = share(_top(batch, document, number_keys, offsets, n), characters)
    keys = NgramKeys(batch, offsets)
    for n in DUPLICATE:
        measures[f"duplicate_{n}gram"] = share(_duplicate(batch, keys, offsets, document, salt, n), characters)
    return measures


def _line_shares(batch: Batch) -> dict[str, Floats | Ints]:
    starts, ends, bounds = newline_segments(batch)
    filled = ends > starts
    kept = np.concatenate([[0], np.cumsum(filled)])[bounds]
    count, characters = repeated_counts(batch, starts[filled], ends[filled], kept)
    last = len(batch.codes) - 1
    written = batch.characters > 0
    # Splitting at runs of line breaks leaves an empty line before a first and after a last one; the second repeats.
    leading = written & (batch.kinds[np.minimum(batch.starts, last)] == NEWLINE)
    trailing = written & (batch.kinds[np.maximum(batch.ends - 1, 0)] == NEWLINE)
    lines = np.maximum(np.diff(kept) + leading + trailing, 1)
    spans = paragraphs(batch)
    twice, paragraph_characters = repeated_counts(batch, *spans)
    return {
        "duplicate_lines": share(count + (leading & trailing), lines),
        "duplicate_line_characters": share(characters, batch.characters),
        "duplicate_paragraphs": share(twice, np.diff(spans[2])),
        "duplicate_paragraph_characters": share(paragraph_characters, batch.characters),
    }


def _top(batch: Batch, document: Ints, keys: Hashes, offsets: Ints, n: int) -> Ints:
    """[D] characters in all occurrences of the most frequent n-gram, spaces included; of equals, the first one's."""
    count = np.diff(batch.document_words)
    width = offsets[n:] - offsets[:-n] + n - 1
    starts = batch.document_words[:-1]
    characters = np.zeros(len(count), np.int64)
    long_enough = count >= n
    characters[long_enough] = width[starts[long_enough]]
    places, groups = _groups(keys, _whole(document, n))
    if not len(places):
        return characters
    times = np.diff(np.append(groups, len(places)))
    first = np.minimum.reduceat(places, groups)
    order = np.lexsort((first, -times, document[first]))
    owner = document[first[order]]
    best = order[np.flatnonzero(np.diff(owner, prepend=-1))]
    characters[document[first[best]]] = width[first[best]] * times[best]
    return characters


def _duplicate(batch: Batch, keys: "NgramKeys", offsets: Ints, document: Ints, salt: Hashes, n: int) -> Ints:
    """[D] characters of n-grams that stood before, read from the left, each character counted once."""
    whole = _whole(document, n)
    places, groups = _groups((keys(n) + salt[: len(whole)]) if len(whole) else np.zeros(0, np.uint64), whole)
    characters = np.zeros(len(batch.starts), np.int64)
    if not len(places):
        return characters
    group = np.repeat(np.arange(len(groups)), np.diff(np.append(groups, len(places))))
    order = np.argsort(places)
    free, seen = 0, bytearray(len(groups))
    found: list[int] = []
    for place, number in zip(places[order].tolist(), group[order].tolist(), strict=True):
        if place < free:
            continue
        if seen[number]:
            found.append(place)
            free = place + n
        else:
            seen[number] = 1
    hits = np.asarray(found, np.int64)
    np.add.at(characters, document[hits], offsets[hits + n] - offsets[hits])
    return characters


class NgramKeys:
    """Hashes of the joined text of n words: Σ hash(wordᵢ)·BASE^offsetᵢ over a prefix sum, moved back to offset 0."""

    def __init__(self, batch: Batch, offsets: Ints) -> None:
        total = int(offsets[-1]) + 1
        weighted = batch.hashes * powers(BASE, total).take(offsets[:-1])
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weighted)])
        self._back = inverse_powers(total).take(offsets[:-1])

    def __call__(self, n: int) -> Hashes:
        """[W - n + 1] one hash per n-gram."""
        return (self._sums[n:] - self._sums[:-n]) * self._back[: len(self._sums) - n]


def _whole(document: Ints, n: int) -> Flags:
    """[W - n + 1] whether n words from here on belong to one document."""
    return document[: len(document) - n + 1] == document[n - 1 :] if len(document) >= n else np.zeros(0, np.bool_)


def _groups(keys: Hashes, whole: Flags) -> tuple[Ints, Ints]:
    """The places whose key occurs more than once, equal keys side by side, and where each group of equals begins."""
    ordered = np.sort(keys)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    marks = np.zeros(1 << 20, np.bool_)
    marks[(twice >> np.uint64(44)).astype(np.int64)] = True
    places = np.flatnonzero(marks.take((keys >> np.uint64(44)).astype(np.int64)) & whole)
    if not len(twice) or not len(places):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    places = places[np.argsort(keys[places])]
    chosen = keys[places]
    same = np.concatenate([[False], chosen[1:] == chosen[:-1], [False]])
    kept = same[1:] | same[:-1]
    return places[kept], np.flatnonzero(~same[:-1][kept])

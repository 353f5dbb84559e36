"""Gopher's repetition measures (Rae et al. 2021, table A1), as datatrove computes them."""

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.batch import Batch, Flags, Floats, share, sums
from data_prep.curation.quality.hashing import BASE, Hashes, Ints, finished, mixed, unaligned
from data_prep.curation.quality.lines import NEWLINE, Segments, paragraphs, repeated

TOP, DUPLICATE = range(2, 5), range(5, 11)
PREFIX = 24
_LIMIT = 1 << 32

Documents = npt.NDArray[np.int32]


def measure_repetition(batch: Batch, segments: Segments) -> dict[str, Floats | Ints]:
    """[D] each: repeated lines and paragraphs (by number and by characters), and repeated n-grams by characters."""
    measures: dict[str, Floats | Ints] = dict(_line_shares(batch, segments))
    counts = np.diff(batch.document_words)
    document = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    salt = mixed(np.arange(len(counts))).take(document)
    for n, characters in zip(TOP, _top(batch, document, salt), strict=True):
        measures[f"top_{n}gram"] = share(characters, batch.characters)
    for n, characters in zip(DUPLICATE, _duplicates(batch, document, salt), strict=True):
        measures[f"duplicate_{n}gram"] = share(characters, batch.characters)
    return measures


def _line_shares(batch: Batch, segments: Segments) -> dict[str, Floats | Ints]:
    kept = segments.bounds
    count, characters = sums(segments.repeats, kept), sums(segments.repeats * segments.characters, kept)
    written = batch.ends > batch.starts
    # Splitting at runs of line breaks leaves an empty line before a first and after a last one; the second repeats.
    leading = written & (batch.kinds[batch.starts] == NEWLINE)
    trailing = written & (batch.kinds[batch.ends - 1] == NEWLINE)
    lines = np.maximum(np.diff(kept) + leading + trailing, 1)
    starts, ends, bounds = paragraphs(batch)
    again = repeated(batch, starts, ends, bounds)
    paragraph_characters = sums(batch.count_characters(starts, ends) * again, bounds)
    return {
        "duplicate_lines": share(count + (leading & trailing), lines),
        "duplicate_line_characters": share(characters, batch.characters),
        "duplicate_paragraphs": share(sums(again, bounds), np.diff(bounds)),
        "duplicate_paragraph_characters": share(paragraph_characters, batch.characters),
    }


def _top(batch: Batch, document: Documents, salt: Hashes) -> list[Ints]:
    """Per n of TOP, [D] characters in all occurrences of the most frequent n-gram, spaces included.

    Of equally frequent ones the first. A repeated n-gram begins with a repeated (n-1)-gram: only those are looked at.
    """
    spread = batch.lexicon.spread.values.take(batch.places)
    keys = spread[:-1] * np.uint64(BASE)
    keys += spread[1:]
    keys += salt[:-1]
    last = batch.document_words[1:] - 1
    last = last[(last >= 0) & (last < len(keys))]
    keys[last] = mixed(last)  # begins no whole bigram: equal to nothing
    places, groups = equals(keys)
    keys = keys.take(places)
    results = [_most_frequent(batch, document, places, groups, TOP.start)]
    for n in TOP[1:]:
        whole = np.flatnonzero(places + n <= batch.document_words[1:].take(document.take(places)))
        places = places.take(whole)
        keys = keys.take(whole) * np.uint64(BASE) + spread.take(places + (n - 1))
        order, groups = equals(keys)
        places, keys = places.take(order), keys.take(order)
        results.append(_most_frequent(batch, document, places, groups, n))
    return results


def _most_frequent(batch: Batch, document: Documents, places: Ints, groups: Ints, n: int) -> Ints:
    """[D] characters in the most frequent n-gram; where none is repeated, in the first one."""
    starts, counts = batch.document_words[:-1], np.diff(batch.document_words)
    first = places.take(groups)
    times = np.diff(groups, append=len(places))
    best = np.zeros(len(counts), np.int64)
    np.maximum.at(best, document.take(first), times * _LIMIT + (_LIMIT - 1 - first))
    best = np.where(best > 0, best, _LIMIT + (_LIMIT - 1 - starts))
    characters = np.zeros(len(counts), np.int64)
    held = np.flatnonzero(counts >= n)
    first = _LIMIT - 1 - best[held] % _LIMIT
    characters[held] = (_characters(batch, first, n) + n - 1) * (best[held] // _LIMIT)
    return characters


def _duplicates(batch: Batch, document: Documents, salt: Hashes) -> list[Ints]:
    """Per n of DUPLICATE, [D] characters of n-grams that stood before, read from the left, each counted once."""
    places = _candidates(batch, salt)
    end = batch.document_words[1:].take(document.take(places))
    known = batch.lexicon
    keys, scale = salt.take(places), np.full(len(places), BASE, np.uint64)
    results: list[Ints] = []
    for n in range(1, DUPLICATE.stop):
        whole = np.flatnonzero(places + n <= end)
        places, end, keys, scale = places.take(whole), end.take(whole), keys.take(whole), scale.take(whole)
        word = batch.places.take(places + (n - 1))
        keys += scale * known.joinable.values.take(word)
        scale *= known.scale.values.take(word)
        if n in DUPLICATE:
            hits = _from_the_left(places, *equals(finished(keys.copy())), document, n)
            characters = np.zeros(len(batch.starts), np.int64)
            np.add.at(characters, document.take(hits), _characters(batch, hits, n))
            results.append(characters)
    return results


def _candidates(batch: Batch, salt: Hashes) -> Ints:
    """The words that may begin a repeated n-gram of DUPLICATE words: the next 24 bytes stand twice in the document.

    Spaces do not count, as in the comparison itself. 8 bytes are compared first, then 16 of what is left. An n-gram
    that is shorter than what is compared stays: its repetition is as short, and stays too.
    """
    visible = np.zeros(len(batch.joined) + PREFIX, np.uint8)
    written = np.frombuffer(batch.joined, np.uint8).compress(~batch.is_space)
    visible[: len(written)] = written
    loads = unaligned(visible)
    offsets = np.zeros(len(batch.places) + 1, np.int64)
    np.cumsum(batch.lexicon.bytes.values.take(batch.places), out=offsets[1:])
    n = DUPLICATE.start
    sizes = offsets[n:] - offsets[:-n]
    keys, at = salt[: len(sizes)], offsets[: len(sizes)]
    chosen = np.arange(len(sizes))
    for step in range(0, PREFIX, 8):
        keys = keys + loads[at + step] * np.uint64(pow(BASE, step + 1, 1 << 64))
        stays = sizes < step + 8
        stays[equals(keys)[0]] = True
        stays = np.flatnonzero(stays)
        chosen, keys, at, sizes = chosen.take(stays), keys.take(stays), at.take(stays), sizes.take(stays)
    return chosen


def _from_the_left(places: Ints, order: Ints, groups: Ints, document: Documents, n: int) -> Ints:
    """Where n-grams begin that stood before, when those that were counted are passed over.

    Equals stand side by side in `order`. An n-gram is new when all its equals before were passed over, which is rare:
    only in documents with such a one every place is gone through.
    """
    first = np.zeros(len(order), np.bool_)
    first[groups] = True
    group = np.cumsum(first) - 1
    places = places.take(order)
    later = np.sort(places[~first])
    hits = _apart(later, n)
    opening = places[groups]
    before = np.searchsorted(hits, opening, side="right") - 1
    passed = (
        opening - hits.take(np.maximum(before, 0), mode="clip") < n if len(hits) else np.zeros(len(groups), np.bool_)
    )
    passed &= before >= 0
    if not passed.any():
        return hits
    unsure = np.unique(document.take(opening[passed])).astype(np.int64)
    again = np.flatnonzero(_among(unsure, document.take(places).astype(np.int64)))
    again = again[np.argsort(places[again])]
    hits = hits[~_among(unsure, document.take(hits).astype(np.int64))]
    slow = _one_by_one(places[again].tolist(), group[again].tolist(), len(groups), n)
    return np.concatenate([hits, np.asarray(slow, np.int64)])


def _apart(places: Ints, n: int) -> Ints:
    """Of ascending places the first, and always the next that is at least n further on."""
    onward = np.searchsorted(places, places + n).tolist()
    found: list[int] = []
    place, end = 0, len(onward)
    while place < end:
        found.append(place)
        place = onward[place]
    return places[found]


def _one_by_one(places: list[int], groups: list[int], count: int, n: int) -> list[int]:
    free, seen = 0, bytearray(count)
    found: list[int] = []
    for place, group in zip(places, groups, strict=True):
        if place < free:
            continue
        if seen[group]:
            found.append(place)
            free = place + n
        else:
            seen[group] = 1
    return found


def _among(ascending: Ints, values: Ints) -> Flags:
    return ascending.take(np.searchsorted(ascending, values), mode="clip") == values


def equals(keys: Hashes) -> tuple[Ints, Ints]:
    """The places [N] whose key occurs more than once, equals side by side in their order; [G] where groups begin."""
    low = np.uint64((1 << len(keys).bit_length()) - 1)
    packed = keys & ~low
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    same = (packed[1:] ^ packed[:-1]) <= low
    member = np.zeros(len(keys) + 1, np.bool_)
    member[1:-1] = same
    member[:-2] |= same
    places = (packed.take(np.flatnonzero(member[:-1])) & low).astype(np.int64)
    chosen = keys.take(places)
    apart = chosen[1:] != chosen[:-1]
    if np.any(apart & ((chosen[1:] ^ chosen[:-1]) <= low)):  # only the upper bits of some are equal
        order = np.lexsort((places, chosen))
        places, chosen = places[order], chosen[order]
        apart = chosen[1:] != chosen[:-1]
        edges = np.concatenate([[True], apart, [True]])
        kept = ~(edges[1:] & edges[:-1])
        places, chosen = places[kept], chosen[kept]
        apart = chosen[1:] != chosen[:-1]
    return places, np.flatnonzero(np.concatenate([np.ones(min(len(places), 1), np.bool_), apart]))


def _characters(batch: Batch, places: Ints, n: int) -> Ints:
    """[N] characters of the n words from each place on."""
    lengths = batch.lexicon.characters.values
    return sum(
        (lengths.take(batch.places.take(places + i)).astype(np.int64) for i in range(n)),
        np.zeros(len(places), np.int64),
    )

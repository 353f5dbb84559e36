"""Where texts hold items of the index: shared n-grams lead to places, where words are compared one by one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.decontamination.index import COMMON, Index
from data_prep.curation.decontamination.ngrams import ngrams, within_text
from data_prep.curation.near_dedup.words import Positions, Words

REPEATS = 16
"""So often an n-gram of the index is looked at in one text; more often only a text does that repeats itself."""
LEAST_SEEDS_SHARE = 0.15
"""A place with fewer of an item's n-grams is not looked at closer, nor reaches the lowest limits that can be set."""
ENOUGH_SEEDS = 12
WALL = 3
"""So many different words in a row end a match."""
GAP = 16
"""Words between two shared n-grams of one match, and a quarter of the item's words more."""


@dataclass(frozen=True)
class Hits:
    """The n-grams of the index in a batch of texts, one entry per occurrence, by text."""

    texts: Positions
    places: Positions
    """Words before the n-gram, in the whole batch."""
    grams: Positions


@dataclass(frozen=True)
class Places:
    """Candidates: one text, one unit, one neighbourhood. `matched` lists their equal words, by candidate."""

    texts: Positions
    units: Positions
    matched: NDArray[np.int64]
    """(matches, 3): candidate, word of the index, word of the batch (the first that is equal to it)."""


def find(words: Words, index: Index) -> tuple[Hits, Places]:
    """All n-grams of the index in the texts, and the places that are worth a look."""
    hits = _hits(words, index)
    return hits, _aligned(words, index, *_clusters(hits, index))


def _hits(words: Words, index: Index) -> Hits:
    grams, bitmap, shift = index.arrays["grams"], index.arrays["bitmap"], np.uint64(index.bitmap_shift)
    found = list[tuple[Positions, Positions, Positions]]()
    for length in index.lengths if len(grams) else []:
        hashes = ngrams(words, length)
        bits = (hashes >> shift).astype(np.int64)
        places = np.flatnonzero(bitmap[bits >> 3] >> (bits & 7).astype(np.uint8) & 1)
        inside, texts = within_text(words, length, places)
        at = np.minimum(np.searchsorted(grams, hashes[places]), len(grams) - 1)
        inside &= grams[at] == hashes[places]
        found.append((texts[inside], places[inside], at[inside]))
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return Hits(empty, empty, empty)
    texts, places, at = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((places, at, texts))
    texts, places, at = texts[order], places[order], at[order]
    starts = np.flatnonzero(np.concatenate(([True], (texts[1:] != texts[:-1]) | (at[1:] != at[:-1])))[: len(at)])
    rank = np.arange(len(at)) - np.repeat(starts, np.diff(np.append(starts, len(at))))
    kept = rank < REPEATS
    return Hits(texts[kept], places[kept], at[kept])


def _clusters(hits: Hits, index: Index) -> tuple[Positions, Positions, Positions, Positions, Positions]:
    """Shared n-grams in the neighbourhoods with enough of them: cluster, its text and unit, place in the index, in the
    batch."""
    first = index.arrays["first"].astype(np.int64)
    counts = first[hits.grams + 1] - first[hits.grams]
    starts = np.cumsum(counts) - counts
    flat = np.arange(counts.sum()) + np.repeat(first[hits.grams] - starts, counts)
    here, there = np.repeat(hits.places, counts), index.arrays["places"][flat].astype(np.int64)
    text = np.repeat(hits.texts, counts)
    unit = np.searchsorted(index.arrays["offsets"], there, side="right") - 1
    order = np.lexsort((there, here, unit, text))
    text, unit, here, there = text[order], unit[order], here[order], there[order]
    gap = GAP + index.unit_lengths[unit[1:]] // 4
    breaks = (text[1:] != text[:-1]) | (unit[1:] != unit[:-1]) | (here[1:] - here[:-1] > gap)
    cluster = np.concatenate(([0], np.cumsum(breaks)))[: len(here)]
    distinct = np.unique(cluster * _SPREAD + there) // _SPREAD
    seeds = np.bincount(distinct, minlength=1)
    needed = np.clip(np.ceil(LEAST_SEEDS_SHARE * index.unit_grams[unit]), 1, ENOUGH_SEEDS)
    kept = seeds[cluster] >= needed if len(cluster) else np.empty(0, dtype=bool)
    return cluster[kept], text[kept], unit[kept], there[kept], here[kept]


def _aligned(
    words: Words, index: Index, cluster: Positions, text: Positions, unit: Positions, there: Positions, here: Positions
) -> Places:
    """Compare unit and text word by word on every diagonal with a shared n-gram."""
    numbers, first, cluster = np.unique(cluster, return_index=True, return_inverse=True)
    owners_text, owners_unit = text[first], unit[first]
    # Shifts can be negative: moved up, a cluster and a shift make one sortable number.
    lines, line_of = np.unique(cluster * _SPREAD + (here - there) + _SPREAD // 2, return_inverse=True)
    owner, shift = lines // _SPREAD, lines % _SPREAD - _SPREAD // 2
    starts = np.maximum(index.arrays["offsets"][owners_unit[owner]], words.offsets[owners_text[owner]] - shift)
    ends = np.minimum(index.arrays["offsets"][owners_unit[owner] + 1], words.offsets[owners_text[owner] + 1] - shift)
    lengths = ends - starts
    line = np.repeat(np.arange(len(lines)), lengths)
    place = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    other = place + shift[line]
    equal = index.arrays["words"][place] == words.hashes[other]
    seeds = np.zeros(len(place), dtype=bool)
    seeds[(np.cumsum(lengths) - lengths)[line_of] + there - starts[line_of]] = True
    reached = equal & _reached(equal, seeds, line)
    matched = np.column_stack((owner[line[reached]], place[reached], other[reached]))
    matched = matched[np.lexsort((matched[:, 2], matched[:, 1], matched[:, 0]))]
    again = (matched[1:, 0] == matched[:-1, 0]) & (matched[1:, 1] == matched[:-1, 1])
    return Places(owners_text, owners_unit, matched[np.concatenate(([True], ~again))[: len(matched)]])


_SPREAD = 1 << 40
"""Beyond any number of words in a batch or an index."""


def _reached(equal: NDArray[np.bool_], seeds: NDArray[np.bool_], line: Positions) -> NDArray[np.bool_]:
    """Whether a word is tied to a shared n-gram of its diagonal: no WALL different words stand between them."""
    if not len(equal):
        return equal
    run_begins = np.concatenate(([True], (equal[1:] != equal[:-1]) | (line[1:] != line[:-1])))
    runs = np.cumsum(run_begins) - 1
    sizes = np.bincount(runs)
    wall = ~equal & (sizes[runs] >= WALL)
    new_line = np.concatenate(([True], line[1:] != line[:-1]))
    left_wall = np.concatenate(([False], wall[:-1] & ~wall[1:]))
    segments = np.cumsum(new_line | left_wall) - 1
    has_seed = np.zeros(segments[-1] + 1, dtype=bool)
    has_seed[segments[seeds]] = True
    return has_seed[segments] & ~wall


def counted_words(index: Index, unit: int, dropped: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which words of a unit stand in an n-gram, and in none that is boilerplate."""
    alive, dead = _grams(index, unit, dropped)
    length = index.gram_length(unit)
    return covered(alive, length) & ~covered(dead, length)


def counted_hits(index: Index, unit: int, matched: NDArray[np.bool_], dropped: NDArray[np.bool_] | None) -> int:
    """How many n-grams of a unit, without boilerplate, consist of matched words."""
    length = index.gram_length(unit)
    sums = np.concatenate(([0], np.cumsum(matched)))
    whole = np.zeros(len(matched), dtype=bool)
    whole[: len(matched) - length + 1] = sums[length:] - sums[: len(sums) - length] == length
    return int((whole & _grams(index, unit, dropped)[0]).sum())


def covered(begins: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Which words stand in one of the runs of `length` words."""
    sums = np.concatenate(([0], np.cumsum(begins)))
    low = np.maximum(np.arange(len(begins)) - length + 1, 0)
    return sums[1:] > sums[low]


def _grams(index: Index, unit: int, dropped: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """At which words of a unit an n-gram begins that counts, and one that is boilerplate."""
    start, end = index.arrays["offsets"][unit : unit + 2].tolist()
    grams = index.arrays["gram_at"][start:end]
    alive, dead = grams < COMMON, grams == COMMON
    if dropped is not None:
        dead[alive] = dropped[grams[alive]]
        alive &= ~dead
    return alive, dead

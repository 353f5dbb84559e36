"""Locality-sensitive hashing: which pairs of texts are worth an exact comparison.

A pair of Jaccard similarity s agrees in one value of its signatures with probability s, so in a band of r values with
s^r, and in at least one of b bands with 1 - (1 - s^r)^b: the S-curve. With 128 permutations, searched from 0.7 with
probability 0.98, the rule of `bands` gives b = 25, r = 5: 6 % of pairs at s = 0.3, 55 % at 0.5, 98.99 % at 0.7, 99.99 %
at 0.8. Of these the signatures themselves rule out most below 0.54.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.words import LENGTH_FACTOR, Hashes, Positions, mix
from data_prep.progress import Track, silent

FLOOR_DEVIATIONS = 4
"""Standard deviations of the estimate below the threshold at which a pair is not compared exactly: of pairs exactly
at the threshold, 3 in 100,000 are lost."""
ESTIMATED_AT_ONCE = 4_000


def bands(permutations: int, threshold: float, probability: float) -> tuple[int, int]:
    """Bands and rows per band: the longest bands (fewest false proposals) that still propose a pair at the threshold.

    Args:
        permutations: length of the signatures.
        threshold: Jaccard similarity t.
        probability: least value of 1 - (1 - t^r)^b, with b = permutations // r.

    Returns:
        (b, r); r = 1 where no r reaches the probability.
    """
    for rows in range(min(permutations, 32), 1, -1):
        if proposed_share(threshold, permutations // rows, rows) >= probability:
            return permutations // rows, rows
    return permutations, 1


def proposed_share(similarity: float, bands: int, rows: int) -> float:
    """Probability that a pair of this Jaccard similarity agrees in at least one band."""
    return 1 - (1 - similarity**rows) ** bands


def propose(
    signatures: NDArray[np.uint32],
    rows: Positions,
    shape: tuple[int, int],
    window: int,
    least_equal: int = 0,
    track: Track = silent,
) -> NDArray[np.int64]:
    """Pairs (a, b), a < b, of positions in `rows` that agree in a band, each once, sorted.

    In a bucket (the texts with one band in common) each text is paired with the first `window` ones and with the
    `window` ones after it, in the order of the rows: all pairs of buckets of up to `window` + 1, and at most
    2 · `window` · texts pairs of any bucket. Equal texts are not to be among them: they would fill the buckets.
    One band is worked on after the other, and what it proposes is judged by the signatures at once, so that memory
    holds the pairs that are left, and about 60 bytes per text.

    Args:
        signatures: (texts, permutations).
        rows: the texts to pair, in the order in which they are searched.
        shape: bands and rows per band.
        window: the bound above.
        least_equal: equal values of the signatures below which a pair is left out.
        track: shows the progress.
    """
    (count, length), total = shape, max(len(rows), 1)
    pairs = np.empty(0, dtype=np.int64)
    for band in track(range(count), "near duplicates: bands", total=count):
        keys = _band_keys(signatures[:, band * length : (band + 1) * length])[rows]
        found = [pairs]
        for earlier, later in _bucket_pairs(keys, window):
            new = _without(earlier * total + later, pairs)
            if least_equal:
                new = new[_equal_values(signatures, rows, *np.divmod(new, total)) >= least_equal]
            found.append(new)
        pairs = distinct(np.concatenate(found))
    return np.stack(np.divmod(pairs, total), axis=1)


def least_equal(permutations: int, threshold: float) -> int:
    """Equal values of two signatures below which a pair is all but surely below the threshold: FLOOR_DEVIATIONS."""
    floor = threshold - FLOOR_DEVIATIONS * math.sqrt(threshold * (1 - threshold) / permutations)
    return math.ceil(floor * permutations)


def promising(
    signatures: NDArray[np.uint32], rows: Positions, pairs: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Which proposed pairs to compare exactly: for most texts all.

    A text with more than 2 · `most` earlier candidates is compared with the `most` first of them (of a large group of
    similar texts the first are mostly kept) and with the `most` whose signatures have most values in common:
    boilerplate costs no more than that.

    Args:
        signatures: (texts, permutations).
        rows: texts in the order in which they are searched.
        pairs: (pairs, 2) positions in `rows`, the earlier one first.
        most: the bound above.
    """
    wanted = np.ones(len(pairs), dtype=bool)
    crowded = np.bincount(pairs[:, 1], minlength=len(rows)) > 2 * most
    many = np.flatnonzero(crowded[pairs[:, 1]])
    earlier, later = pairs[many].T
    equal = _equal_values(signatures, rows, earlier, later)
    wanted[many] = False
    for order in (np.lexsort((earlier, later)), np.lexsort((earlier, -equal, later))):
        ordered = later[order]
        starts = np.flatnonzero(np.concatenate((np.ones(min(len(ordered), 1), dtype=bool), np.diff(ordered) != 0)))
        place = _counted(np.diff(np.concatenate((starts, [len(ordered)]))))
        wanted[many[order[place < most]]] = True
    return wanted


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted, each once (np.unique hashes first, which is slower here than numpy's vectorised sort)."""
    values.sort()
    return values[np.concatenate((np.ones(min(len(values), 1), dtype=bool), values[1:] != values[:-1]))]


def _without(values: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values that are not among the sorted `known` ones."""
    if not known.size:
        return values
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return values[known[place] != values]


def _equal_values(
    signatures: NDArray[np.uint32], rows: Positions, earlier: Positions, later: Positions
) -> NDArray[np.int16]:
    """Number of permutations on which each pair of positions in `rows` agrees."""
    equal = np.empty(len(earlier), dtype=np.int16)
    for start in range(0, len(earlier), ESTIMATED_AT_ONCE):
        part = slice(start, start + ESTIMATED_AT_ONCE)
        alike = signatures[rows[earlier[part]]] == signatures[rows[later[part]]]
        equal[part] = alike.sum(axis=1, dtype=np.int16)
    return equal


def _band_keys(band: NDArray[np.uint32]) -> Hashes:
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        keys += column
        keys *= LENGTH_FACTOR
        mix(keys)
    return keys


def _bucket_pairs(keys: Hashes, window: int) -> Iterator[tuple[Positions, Positions]]:
    """Pairs of rows with equal keys, the earlier row first."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.concatenate((starts, [len(keys)])))
    starts, sizes = starts[sizes > 1], sizes[sizes > 1]
    position = np.repeat(starts, sizes) + _counted(sizes)
    start, left = np.repeat(starts, sizes), np.repeat(starts + sizes, sizes) - position
    for distance in range(1, window + 1):
        near = left > distance
        position, start, left = position[near], start[near], left[near]
        if not position.size:
            return
        yield order[position], order[position + distance]
    yield from _with_first(order, starts[sizes > window + 1], sizes[sizes > window + 1], window)


def _with_first(
    order: Positions, starts: Positions, sizes: Positions, window: int
) -> Iterator[tuple[Positions, Positions]]:
    for first in range(window):
        later = np.repeat(starts, sizes) + _counted(sizes)
        leader = np.repeat(starts + first, sizes)
        beyond = later > leader + window
        yield order[leader[beyond]], order[later[beyond]]


def _counted(sizes: Positions) -> Positions:
    """0 … size - 1 for each of `sizes`, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)

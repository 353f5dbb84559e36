"""Find near-duplicates: signatures, proposed pairs, exact comparison, and the rows to keep."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.candidates import bands, promising, propose
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.groups import NearDuplicates, choose, nearest
from data_prep.curation.near_dedup.shingles import Signatures, sign
from data_prep.curation.near_dedup.verify import Similarities, clusters, compare
from data_prep.curation.near_dedup.words import Positions
from data_prep.errors import DataError
from data_prep.progress import Track, silent


def find_near_duplicates(
    texts: Sequence[str], config: NearDedup, keys: Sequence[Any] | None = None, track: Track = silent
) -> NearDuplicates:
    """Find the rows that nearly repeat a row that is kept.

    The result does not depend on the order of the texts, but for rows that are equal in all that `config.keep` and
    the keys look at (with `keep="first"` the order is the rule).

    Args:
        texts: one per row; any sequence with slices, read twice where a row has a candidate.
        config: the settings.
        keys: one sortable value per row, of one type; the lowest is kept by `keep="key"`, and settles ties otherwise.
        track: shows the progress.

    Raises:
        DataError: keys are missing, too few, or have no order.
    """
    index = sign(texts, config.words, config.permutations, config.seed, track)
    order = _keep_order(index, config, keys)
    leader = _equal_rows(index, order)
    rows = order[leader[order] == order]  # one row for all with the same words, in the order of keeping
    pairs, similarities = _verified(texts, index, rows, config, track)
    kept = choose(pairs, len(rows))
    witness = nearest(pairs, similarities.jaccard, kept)
    group = rows[_first_of_cluster(pairs, len(rows))]
    return _spread(rows, leader, pairs, similarities, witness, group)


def _keep_order(index: Signatures, config: NearDedup, keys: Sequence[Any] | None) -> Positions:
    """All rows, those to keep first."""
    total = len(index.sizes)
    if config.keep == "first":
        return np.arange(total)
    key = _key_ranks(keys, total) if keys is not None else np.zeros(total, dtype=np.int64)
    if config.keep == "key":
        if keys is None:
            raise DataError("near_dedup.keep: key needs keys and none were given; give one per row, or keep=longest")
        return np.lexsort((index.fingerprints, -index.characters, key))
    return np.lexsort((index.fingerprints, key, -index.characters))


def _key_ranks(keys: Sequence[Any], total: int) -> Positions:
    if len(keys) != total:
        raise DataError(f"near_dedup: {len(keys)} keys for {total} texts; give one key per text")
    if any(isinstance(key, float) and math.isnan(key) for key in keys):
        raise DataError("near_dedup: a key is NaN, which has no order; give a number to every row")
    try:
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    except TypeError as error:
        raise DataError(f"near_dedup: keys cannot be sorted ({error}); give keys of one sortable type") from error
    return np.fromiter((ranks[key] for key in keys), dtype=np.int64, count=total)


def _equal_rows(index: Signatures, order: Positions) -> Positions:
    """Per row, the first row in `order` with the same shingles as often: itself for most."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    sorted_rows = np.lexsort((rank, index.sizes, index.fingerprints))
    earlier, later = sorted_rows[:-1], sorted_rows[1:]
    same = (index.fingerprints[earlier] == index.fingerprints[later]) & (index.sizes[earlier] == index.sizes[later])
    # A second opinion of 128 other hashes: rows are never removed on one 64-bit sum.
    alike = np.flatnonzero(same)
    same[alike] = (index.matrix[earlier[alike]] == index.matrix[later[alike]]).all(axis=1)
    begins = np.concatenate((np.ones(min(len(order), 1), dtype=bool), ~same))
    leader = np.empty_like(order)
    leader[sorted_rows] = sorted_rows[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return leader


def _verified(
    texts: Sequence[str], index: Signatures, rows: Positions, config: NearDedup, track: Track
) -> tuple[NDArray[np.int64], Similarities]:
    """The pairs, as positions in `rows`, that are similar enough, and how similar."""
    shape = bands(config.permutations, config.threshold, config.proposal_probability)
    pairs = propose(index.matrix, rows, shape, config.bucket_window, track)
    floor = config.threshold if config.containment is None else None
    pairs = pairs[promising(index.matrix, rows, pairs, floor, config.bucket_window)]
    found = compare(texts, rows[pairs], index.sizes, config.words, track)
    similar = found.jaccard >= config.threshold
    if config.containment is not None:
        similar |= found.containment >= config.containment
    return pairs[similar], Similarities(found.shared[similar], found.first[similar], found.second[similar])


def _first_of_cluster(pairs: NDArray[np.int64], total: int) -> Positions:
    labels = clusters(pairs, total)
    return np.unique(labels, return_index=True)[1][labels]


def _spread(
    rows: Positions,
    leader: Positions,
    pairs: NDArray[np.int64],
    similarities: Similarities,
    witness: Positions,
    group: Positions,
) -> NearDuplicates:
    """From the rows that lead equal ones to all rows: a row with the words of a removed one has the same witness."""
    position = np.empty(len(leader), dtype=np.int64)
    position[rows] = np.arange(len(rows))
    position = position[leader]
    duplicate_of = np.where(leader == np.arange(len(leader)), -1, leader)
    similarity = np.where(duplicate_of >= 0, 1.0, np.nan)
    containment = similarity.copy()
    removed = np.flatnonzero(witness[position] >= 0)
    pair = witness[position[removed]]
    duplicate_of[removed] = rows[pairs[pair, 0]]
    similarity[removed] = similarities.jaccard[pair]
    containment[removed] = similarities.containment[pair]
    return NearDuplicates(duplicate_of, similarity, containment, group[position])

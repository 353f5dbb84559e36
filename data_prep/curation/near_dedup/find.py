"""Find near-duplicates among texts in memory: signatures, pairs and the decision in one call."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.groups import NearDuplicates
from data_prep.curation.near_dedup.pairs import find_pairs
from data_prep.curation.near_dedup.resolve import resolve
from data_prep.curation.near_dedup.shingles import sign
from data_prep.curation.near_dedup.signatures import Signatures
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
        keys: one sortable value per row, of one type. With `keep` best and earliest the lowest is kept (of a score,
            hand in its negative); otherwise it settles ties.
        track: shows the progress.

    Raises:
        DataError: keys are missing, too few, or have no order.
    """
    index = sign(texts, config.words, config.permutations, config.seed, track)
    order = _keep_order(index, config, keys)
    return resolve(find_pairs(index, texts, config, order, track), config, order, texts)


def _keep_order(index: Signatures, config: NearDedup, keys: Sequence[Any] | None) -> Positions:
    """All rows, those to keep first."""
    total = len(index.records)
    if config.keep == "first":
        return np.arange(total)
    key = _key_ranks(keys, total) if keys is not None else np.zeros(total, dtype=np.int64)
    if config.keep == "longest":
        return np.lexsort((index.fingerprints, key, -index.characters))
    if keys is None:
        raise DataError(f"near_dedup.keep: {config.keep} needs keys and none were given; give one per row")
    return np.lexsort((index.fingerprints, -index.characters, key))


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

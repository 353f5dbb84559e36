"""Large groups of similar rows, compared further in the order in which rows are kept.

In a bucket larger than the window the search compares each row with the first rows of its own order and with its
neighbours. Where rows are kept in another order (those first rows fail another step, say), a group of thousands of
variants of one text would keep one row in about seventeen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.groups import choose
from data_prep.curation.near_dedup.verify import Similarities, clusters, compare
from data_prep.curation.near_dedup.words import Positions

TRIES = 4
"""Rows of a group that may be compared with all others in vain before the group is left as it is."""

Links = tuple[NDArray[np.int64], Similarities]
"""Pairs of ranks in the order of keeping, the earlier first, and how similar they are."""


def similar(links: NDArray[np.int64], found: Similarities, config: NearDedup) -> NDArray[np.bool_]:
    """Which of the links remove their later row."""
    enough = found.jaccard >= config.threshold
    if config.containment is not None:
        enough |= found.containment >= config.containment
    return enough & (links[:, 0] != links[:, 1])


def refine(known: Links, order: Positions, config: NearDedup, texts: Sequence[str]) -> Links:
    """The links and those that are found in groups of which more than `bucket_window` rows would be kept.

    The first row of such a group is kept, is compared exactly with all that are left, and takes those away that are
    similar; then the next. A row pays if that is one in `bucket_window` of them at least; after TRIES rows that did
    not, the rest of the group is decided by the links of the search. So a group of n rows costs at most
    (`bucket_window` + TRIES) · n comparisons.

    Args:
        known: what the search found.
        order: all rows, those to keep first.
        config: the thresholds.
        texts: of all rows, read on demand.
    """
    links, found = known
    labels = clusters(links, len(order))
    crowded = np.bincount(labels[choose(links, len(order))], minlength=1) > config.bucket_window
    left, failed = crowded[labels], np.zeros(len(crowded), dtype=np.int64)
    left &= np.bincount(links.ravel(), minlength=len(order)) > 0
    sizes = np.zeros(len(order), dtype=np.int64)
    sizes[order[links[:, 0]]], sizes[order[links[:, 1]]] = found.first, found.second
    while left.any():
        pairs = _with_pivot(np.flatnonzero(left), labels)
        measured = compare(texts, order[pairs], sizes, config.words)
        enough = similar(pairs, measured, config)
        links, found = np.concatenate((links, pairs[enough])), found.followed_by(measured.part(enough))
        group = labels[pairs[:, 1]]
        compared = np.bincount(group, minlength=len(crowded))
        taken = np.bincount(group[enough], minlength=len(crowded))
        failed += taken * config.bucket_window < compared
        left[pairs[:, 0]] = left[pairs[enough, 1]] = False
        left &= (failed < TRIES)[labels] & (compared > 0)[labels]
    return links, found


def _with_pivot(ranks: Positions, labels: Positions) -> NDArray[np.int64]:
    """The first rank of each group with all others of it."""
    _, first, group = np.unique(labels[ranks], return_index=True, return_inverse=True)
    pairs = np.column_stack((ranks[first][group], ranks))
    return pairs[pairs[:, 0] != pairs[:, 1]]

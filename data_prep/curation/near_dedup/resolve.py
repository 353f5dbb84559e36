"""Decide: which rows are removed under a threshold and a rule of keeping, from pairs that were found before."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.groups import NearDuplicates, choose, nearest
from data_prep.curation.near_dedup.pairs import NearPairs
from data_prep.curation.near_dedup.refine import refine, similar
from data_prep.curation.near_dedup.verify import Similarities, clusters
from data_prep.curation.near_dedup.words import Positions
from data_prep.errors import DataError


def resolve(
    pairs: NearPairs, config: NearDedup, order: Positions, texts: Sequence[str] | None = None
) -> NearDuplicates:
    """The rows that nearly repeat a row that is kept.

    Going through the rows in `order`, each is kept unless a verified pair links it to a row that is kept already; of
    equal rows the first in `order` stands for all. For any threshold from `pairs.search_from` on the result is that of
    a new search with the same `search_from`: the pairs do not hang on the threshold. Another `search_from` has other
    bands: of the pairs near the threshold LSH may then miss others, and in buckets larger than the window (and for
    rows with more candidates than twice the window) other pairs are compared.

    Args:
        pairs: what `find_pairs` found.
        config: the thresholds.
        order: all rows, those to keep first (`keep_order`).
        texts: the compared texts, as in the search. With them groups of which more than `bucket_window` rows would be
            kept are compared further (`refine`); without, they keep the more rows the more `order` differs from that
            of the search.

    Raises:
        DataError: a threshold is below what was searched for.
    """
    _check_searched(pairs, config)
    best, links = _linked(pairs, order)
    found = pairs.similarities.swapped(links[:, 0] > links[:, 1])
    links.sort(axis=1)
    enough = similar(links, found, config)
    links, found = links[enough], found.part(enough)
    if texts is not None and len(links):
        links, found = refine((links, found), order, config, texts)
    kept = choose(links, len(order))
    witness = nearest(links, found.jaccard, kept)
    return _spread(order, best, links, found, witness)


def _check_searched(pairs: NearPairs, config: NearDedup) -> None:
    again = "search again from there, or stay above"
    if config.threshold < pairs.search_from:
        raise DataError(
            f"near_dedup.threshold: {config.threshold} is below search_from {pairs.search_from} of these pairs; {again}"
        )
    searched = pairs.search_containment_from
    if config.containment is not None and (searched is None or config.containment < searched):
        raise DataError(
            f"near_dedup.containment: {config.containment} is below search_containment_from {searched} of these pairs; "
            f"{again}"
        )


def _linked(pairs: NearPairs, order: Positions) -> tuple[Positions, Positions]:
    """Ranks in `order`: per row of the best of its equals; per verified pair of the best of either side's equals."""
    total = len(order)
    rank = np.empty(total, dtype=np.int64)
    rank[order] = np.arange(total)
    best = np.full(total, total, dtype=np.int64)
    np.minimum.at(best, pairs.leader, rank)
    best = best[pairs.leader]
    links = np.column_stack((best[pairs.verified["first"]], best[pairs.verified["second"]]))
    return best, links


def _spread(
    order: Positions, best: Positions, links: NDArray[np.int64], similarities: Similarities, witness: Positions
) -> NearDuplicates:
    """From ranks to rows, and from the best of equals to all of them: they share its witness."""
    pair = witness[best]
    duplicate_of = np.where(order[best] == np.arange(len(order)), -1, order[best])
    similarity = np.where(duplicate_of >= 0, 1.0, np.nan)
    containment = similarity.copy()
    removed = np.flatnonzero(pair >= 0)
    pair = pair[removed]
    duplicate_of[removed] = order[links[pair, 0]]
    similarity[removed] = similarities.jaccard[pair]
    containment[removed] = similarities.containment[pair]
    labels = clusters(links, len(order))
    first = np.unique(labels, return_index=True)[1][labels]
    return NearDuplicates(duplicate_of, similarity, containment, order[first[best]])

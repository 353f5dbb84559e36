"""Verdicts as arrays, and what follows from them without statistics.

Shapes: P pairs, J judges, 2 orders (1 for pointwise), R resamples.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig
from eval.judge.games import Verdict

CHUNK_ELEMENTS = 2**20
"""Weights held at once, 8 MiB in float64."""


class Table(NamedTuple):
    """Verdicts as arrays, pairs in the order of their first verdict."""

    ids: list[str]
    judges: list[str]
    orders: list[str]
    preference: np.ndarray  # (P, J, orders): of the tuned answer, 0 to 1; NaN where the judge failed
    outcome: np.ndarray  # (P, J, orders): 1 tuned, 0 tie, -1 base; NaN where the judge failed
    identical: np.ndarray  # (P,) the two answers are one text, about which nobody was asked
    delta: np.ndarray  # (P,) characters of the tuned answer - those of the base's
    cluster: np.ndarray  # (P,) number of the prompt


def table_of(verdicts: Sequence[Verdict], config: JudgeConfig) -> Table:
    """Raises DataError where a verdict is missing or there twice: then the file is not whole."""
    ids = list(dict.fromkeys(row["id"] for row in verdicts))
    judges = list(dict.fromkeys(row["judge"] for row in verdicts))
    orders = list(dict.fromkeys(row["order"] for row in verdicts))
    places = {(row["id"], row["judge"], row["order"]): row for row in verdicts}
    if len(places) != len(verdicts) or len(places) != len(ids) * len(judges) * len(orders) or not places:
        raise DataError(f"verdicts: {len(verdicts)} rows are not one per pair, judge and order; judge again")
    shape = (len(ids), len(judges), len(orders))
    rows = [places[i, j, o] for i in ids for j in judges for o in orders]
    preference = np.array([math.nan if r["preference"] is None else r["preference"] for r in rows], float).reshape(
        shape
    )
    sign = {"tuned": 1.0, "base": -1.0, "tie": 0.0, None: math.nan}
    outcome = np.array([sign[row["winner"]] for row in rows], float).reshape(shape)
    if not config.weighted:
        preference = 0.5 + outcome / 2
    firsts = [places[i, judges[0], orders[0]] for i in ids]
    delta = np.array([row["tuned_characters"] - row["base_characters"] for row in firsts], float)
    _, cluster = np.unique([row["cluster"] for row in firsts], return_inverse=True)
    identical = np.array([row["identical"] for row in firsts], bool)
    return Table(ids, judges, orders, preference, outcome, identical, delta, cluster)


def pair_scores(preference: np.ndarray, vote: str) -> np.ndarray:
    """(P,) scores of the tuned answers in [0, 1] from preferences (P, J, orders).

    A judge's score is the mean of its orders and needs them all: one order alone carries the position's advantage. A
    pair needs one judge. NaN where there is none.
    """
    judged = preference.mean(axis=2)  # NaN where one order failed
    if vote == "majority":
        balance = np.nansum(np.sign(np.round(judged - 0.5, 12)), axis=1)
        judged = np.where(np.isnan(judged), np.nan, 0.5 + 0.5 * np.sign(balance)[:, None])
    known = ~np.isnan(judged)
    total = np.where(known, judged, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def outcomes_of(preference: np.ndarray, vote: str = "majority") -> list[str | None]:
    """tuned, base, tie or None of each pair; ½ is a tie, and so is a judge that contradicts itself without leaning."""
    scores = pair_scores(preference, vote)
    return [None if math.isnan(s) else "tie" if abs(s - 0.5) < 1e-9 else "tuned" if s > 0.5 else "base" for s in scores]


def hard_preference(table: Table) -> np.ndarray:
    """(P, J, orders): 1, ½, 0 instead of probabilities."""
    return 0.5 + table.outcome / 2


def order_sums(table: Table) -> np.ndarray:
    """(P, 4): judges whose two orders agree, judges with two orders, Σ (first position's score - ½), verdicts.

    Identical answers are left out: nobody was asked about them.
    """
    asked = ~table.identical[:, None]
    both = ~np.isnan(table.outcome).any(axis=2) & asked
    agree = both & (table.outcome[:, :, 0] == table.outcome[:, :, 1])
    base_first, tuned_first = table.preference[:, :, 0], table.preference[:, :, 1]
    lean = np.where(both, (1 - base_first) + tuned_first - 1, 0.0)
    return np.stack([agree.sum(axis=1), both.sum(axis=1), lean.sum(axis=1), 2 * both.sum(axis=1)], axis=1).astype(float)


def cluster_weights(cluster: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each pair is drawn (r, P), in chunks that add up to R rows; pairs of a prompt are drawn together."""
    generator = np.random.default_rng(seed)
    count, pairs = int(cluster.max()) + 1, len(cluster)
    chunk = max(1, CHUNK_ELEMENTS // max(pairs, count))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(0, count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield weights[:, cluster].astype(np.float64)

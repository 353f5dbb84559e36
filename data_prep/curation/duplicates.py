"""Rows that repeat others, over all shards of a job: found once, decided about as often as one likes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.config import CurationSteps
from data_prep.curation.exact_dedup.order import keep_order, measure_of
from data_prep.curation.job import SPLITS_IN_ORDER, Job, Shard
from data_prep.progress import Track, silent

KEPT = -1


@dataclass(frozen=True)
class Duplicates:
    """What is known about each row (of all, or of a slice). Positions count the rows of the job."""

    exact: NDArray[np.int64]
    """The kept row with the same key; -1 where there is none."""
    near: NDArray[np.int64]
    """The kept row that is most similar; -1 for a row that is kept, or removed as an exact repeat."""
    similarity: NDArray[np.float64]
    """Exact Jaccard similarity to that row; NaN where there is none."""
    group: NDArray[np.int64]
    """The first row, in the order of keeping, of all rows linked by verified pairs; -1 without near-deduplication."""

    @classmethod
    def none(cls, rows: int) -> "Duplicates":
        """Nothing repeats anything."""
        nothing = np.full(rows, KEPT, dtype=np.int64)
        return cls(nothing, nothing.copy(), np.full(rows, np.nan), nothing.copy())

    def save(self, folder: Path) -> None:
        """Write one file per array."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in vars(self).items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, part: slice) -> "Duplicates":
        """A slice of the rows, without reading the others."""
        names = ("exact", "near", "similarity", "group")
        return cls(*(np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[part]) for name in names))

    def reasons(self, steps: CurationSteps, ids: NDArray[Any]) -> dict[str, list[list[str]]]:
        """The reasons of both steps, where they are on, for the rows of this slice; `ids`: of all rows."""
        found: dict[str, list[list[str]]] = {}
        if exact := steps.exact_dedup:
            what = exact.field if exact.on == "field" else exact.on
            found["exact_dedup"] = [
                [f"repeats the {what} of {_name(ids, at)}"] if at != KEPT else [] for at in self.exact.tolist()
            ]
        if near := steps.near_dedup:
            found["near_dedup"] = [
                [f"similarity {similarity:.2f} of the {near.on} to {_name(ids, at)}"] if at != KEPT else []
                for at, similarity in zip(self.near.tolist(), self.similarity.tolist(), strict=True)
            ]
        return found

    def witnesses(self, ids: NDArray[Any]) -> list[str | None]:
        """Per row the id of the row that it repeats; None: it repeats no row."""
        repeated = np.where(self.exact != KEPT, self.exact, self.near)
        return [_name(ids, at) if at != KEPT else None for at in repeated.tolist()]

    def groups(self, ids: NDArray[Any]) -> list[str | None]:
        """Per row the id of the first row of its group; None: no group was looked for."""
        return [_name(ids, at) if at != KEPT else None for at in self.group.tolist()]

    def similarities(self) -> list[float | None]:
        """Per row its similarity to the row that it repeats; 1 for an exact repeat, None where it repeats none."""
        exact = (self.exact != KEPT).tolist()
        near = self.similarity.tolist()
        return [1.0 if same else (None if value != value else value) for same, value in zip(exact, near, strict=True)]


def find_duplicates(job: Job, steps: CurationSteps, track: Track = silent) -> None:
    """Search each data set for pairs of similar rows, and note them in the job."""
    if (near := steps.near_dedup) is None:
        return
    from data_prep.curation.near_dedup.pairs import find_pairs, search_order
    from data_prep.curation.near_dedup.signatures import load_signatures

    for number, shards in enumerate(_pools(job)):
        files = [job.file(shard, "signatures.npy") for shard in shards]
        index = load_signatures(files, near.permutations)
        order = search_order(index, _split_ranks(job, shards))
        find_pairs(index, job.texts(shards, near.on), near, order, track).save(_pairs_file(job, number))


def resolve(job: Job, steps: CurationSteps, fails: NDArray[np.bool_]) -> Duplicates:
    """Which rows repeat a row that is kept.

    Args:
        job: the measured job.
        steps: the steps with their thresholds.
        fails: per row of the job, whether a step drops it that judges rows by themselves.
    """
    all_of_them = Duplicates.none(len(fails))
    start = 0
    for number, shards in enumerate(_pools(job)):
        part = slice(start, start + sum(job.rows[shard.number] for shard in shards))
        _resolve_pool(job, steps, number, shards, fails[part], all_of_them, part)
        start = part.stop
    return all_of_them


def _resolve_pool(
    job: Job,
    steps: CurationSteps,
    number: int,
    shards: Sequence[Shard],
    fails: NDArray[np.bool_],
    into: Duplicates,
    part: slice,
) -> None:
    splits, places = _split_ranks(job, shards), np.arange(len(fails))
    if steps.exact_dedup:
        from data_prep.curation.exact_dedup.resolve import load_keys
        from data_prep.curation.exact_dedup.resolve import resolve as resolve_exact

        keys = load_keys([job.file(shard, "keys.npy") for shard in shards])
        exact = resolve_exact(keys, keep_order(fails, splits, places, places))
        into.exact[part] = _moved(exact, part.start)
        fails = fails | (exact != KEPT)
    if near := steps.near_dedup:
        from data_prep.curation.near_dedup.pairs import load_pairs
        from data_prep.curation.near_dedup.resolve import resolve as resolve_near

        order = keep_order(fails, splits, _measure(job, steps, shards), places)
        texts = job.texts(shards, near.on)
        found = resolve_near(load_pairs(_pairs_file(job, number)), near, order, texts)
        # A row that repeats another exactly is named as such.
        repeated = into.exact[part] != KEPT
        into.exact[part] = _kept_in_the_end(into.exact[part], _moved(found.duplicate_of, part.start), part.start)
        into.near[part] = np.where(repeated, KEPT, _moved(found.duplicate_of, part.start))
        into.similarity[part] = np.where(repeated, np.nan, found.similarity)
        into.group[part] = found.group + part.start


def _measure(job: Job, steps: CurationSteps, shards: Sequence[Shard]) -> NDArray[Any]:
    assert steps.near_dedup is not None, "only called with this step on"
    near = steps.near_dedup
    characters = np.array(job.column("characters", shards), dtype=np.int64)
    if near.keep == "best":
        return measure_of("best", characters, job.column(near.best_of or "", shards))
    if near.keep == "earliest":
        return measure_of("earliest", characters, job.column("near_dedup_earliest_by", shards))
    return measure_of(near.keep, characters)


def _pools(job: Job) -> list[list[Shard]]:
    """The shards of each data set: rows of different data sets are not compared."""
    return [[shard for shard in job.shards if shard.dataset == dataset] for dataset in job.datasets]


def _split_ranks(job: Job, shards: Sequence[Shard]) -> NDArray[np.int8]:
    ranks = [np.full(job.rows[shard.number], SPLITS_IN_ORDER.index(shard.split), dtype=np.int8) for shard in shards]
    return np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int8)


def _pairs_file(job: Job, number: int) -> Path:
    return job.folder / "near_duplicates" / f"{number}.npy"


def _moved(positions: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    return np.where(positions == KEPT, KEPT, positions + by)


def _kept_in_the_end(exact: NDArray[np.int64], near: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """The row that an exact repeat names must be kept itself: where near-deduplication removes it, its witness is."""
    named = np.where(exact == KEPT, 0, exact - first)
    return np.where((exact != KEPT) & (near[named] != KEPT), near[named], exact)


def _name(ids: NDArray[Any], position: int) -> str:
    return ids[position].decode()

"""How many documents have each part: counted per shard, then merged over shards in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.arrays import load_arrays, mapped, save_arrays
from data_prep.curation.repeated_parts.boilerplate import BOILERPLATE, Boilerplate
from data_prep.curation.repeated_parts.config import RepeatedParts
from data_prep.curation.repeated_parts.parts import is_looked_at, parts_in, row_number, texts_of
from data_prep.rows import Row

COUNT = np.dtype([("part", "<u8"), ("first", "<u8"), ("documents", "<u4")])
"""20 bytes per different part of a shard: its hash, that of the id of the first row which has it, and how many do."""

MERGED_AT_ONCE = 4_000_000
"""Entries of all shards that are merged at once, about 100 bytes each."""


@dataclass(frozen=True)
class PartCounts:
    """The parts of one shard."""

    counts: NDArray[Any]
    """(parts,) of type COUNT, sorted by part."""
    documents: int
    """Rows that were looked at."""

    def save(self, path: Path) -> None:
        """Write one file; the same rows are the same bytes."""
        save_arrays(path, self.counts, np.array([self.documents], dtype="<i8"))


def count_shard(rows: Sequence[Row], config: RepeatedParts) -> PartCounts:
    """Count the parts of a shard: each once per row, however often the row has it."""
    first, documents = dict[int, int](), dict[int, int]()
    looked_at = 0
    for row in rows:
        if not is_looked_at(row, config):
            continue
        looked_at += 1
        name = row_number(row)
        for number in {part.number for text in texts_of(row) for part in parts_in(text, config)} - {0}:
            documents[number] = documents.get(number, 0) + 1
            first.setdefault(number, name)
    counts = np.empty(len(documents), dtype=COUNT)
    for name, values in (("part", documents.keys()), ("documents", documents.values()), ("first", first.values())):
        counts[name] = np.fromiter(values, dtype=COUNT[name], count=len(documents))
    return PartCounts(counts[np.argsort(counts["part"])], looked_at)


def merge(files: Iterable[Path], config: RepeatedParts) -> Boilerplate:
    """The parts that are boilerplate over all shards.

    A part that one shard has once may be in every other one, so that no shard can drop anything by itself. Instead the
    range of the hashes is cut so that a piece has about MERGED_AT_ONCE entries in all shards together (a shard is
    sorted: its piece is a slice). A piece is merged whole, and all but its boilerplate is dropped at once: exact, and
    memory is that of one piece and of the result, however many shards there are.

    Args:
        files: written by `PartCounts.save`, in the order of the data: of `keep_first` the first one wins.
        config: the settings.
    """
    paths = list(files)
    documents = sum(int(load_arrays(path, 2)[1][0]) for path in paths)
    needed = max(config.min_documents, _at_least(config.min_share or 0, documents))
    pieces = [_merged(piece, needed) for piece in _pieces(paths)]
    found = np.concatenate([np.empty(0, dtype=COUNT), *pieces])
    boilerplate = np.empty(len(found), dtype=BOILERPLATE)
    boilerplate["part"] = found["part"]
    boilerplate["keeper"] = found["first"] if config.keep_first else 0
    return Boilerplate(boilerplate, documents, needed)


def _at_least(share: float, documents: int) -> int:
    """The smallest number of documents that is at least this share of them."""
    needed = int(share * documents)
    return needed if needed >= share * documents else needed + 1


def _pieces(paths: Sequence[Path]) -> Iterator[NDArray[Any]]:
    total = sum(len(mapped(path)) for path in paths)
    steps = -(-total // MERGED_AT_ONCE)
    # Hashes are evenly spread, so that equal ranges hold about equally many entries.
    bounds = [np.uint64(2**64 * step // steps) for step in range(1, steps)] if steps else []
    start = np.uint64(0)
    for stop in [*bounds, None]:
        yield np.concatenate([np.empty(0, dtype=COUNT), *_slices(paths, start, stop)])
        start = stop if stop is not None else start


def _slices(paths: Iterable[Path], start: np.uint64, stop: np.uint64 | None) -> Iterator[NDArray[Any]]:
    for path in paths:
        counts = mapped(path)
        parts = counts["part"]
        end = len(parts) if stop is None else int(np.searchsorted(parts, stop))
        yield np.array(counts[int(np.searchsorted(parts, start)) : end])


def _merged(piece: NDArray[Any], needed: int) -> NDArray[Any]:
    """One entry per part with at least `needed` documents; `first` from the first shard."""
    piece = piece[np.argsort(piece["part"], kind="stable")]
    parts = piece["part"]
    starts = np.flatnonzero(np.concatenate((np.ones(min(len(parts), 1), dtype=bool), parts[1:] != parts[:-1])))
    merged = piece[starts]
    if len(starts):
        totals = np.add.reduceat(piece["documents"].astype(np.int64), starts)
        merged = merged[totals >= needed]
    return merged

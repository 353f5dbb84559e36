"""A curation job: data sets cut into shards, and where the measures of each shard lie.

The folder of a measured job holds `job.json`, `ids.npy` and, per shard, its rows (edited), their measures and what
duplicates are found by. Rows are numbered through over all shards: data sets in their order, test rows first, then
validation and training rows.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.compared import compared_text
from data_prep.errors import DataError
from data_prep.rows import read_stats, row_ranges, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 8 << 20
"""Bytes of a shard's input. Fixed, because the ledger's row groups follow the shards."""

SHARDS = "shards"

On = Literal["row", "prompt", "completion"]

SPLITS_IN_ORDER = ("test", "validation", "train")
"""Of duplicates the first by this order is kept: training must not hold a row of the evaluation."""


@dataclass(frozen=True)
class Shard:
    """A range of lines of one split of one data set."""

    number: int
    dataset: str
    split: str
    folder: str
    start: int
    end: int
    content: str = ""
    """Hash of these lines, so that a shard of another input is never taken for finished."""

    @property
    def name(self) -> str:
        """`00012`: the folder of its results."""
        return f"{self.number:05}"


def cut(folders: dict[str, Path]) -> list[Shard]:
    """The shards of dataset folders; they follow from the files alone."""
    ranges = [
        (dataset, split, folder, start, end)
        for dataset, folder in folders.items()
        for split in SPLITS_IN_ORDER
        for start, end in row_ranges(folder, split, SHARD_BYTES)
    ]
    return [
        Shard(number, dataset, split, str(folder), start, end, _hash(folder / f"{split}.jsonl", start, end))
        for number, (dataset, split, folder, start, end) in enumerate(ranges)
    ]


def _hash(path: Path, start: int, end: int) -> str:
    import xxhash

    with path.open("rb") as file:
        file.seek(start)
        return xxhash.xxh3_128_hexdigest(file.read(end - start))


@dataclass(frozen=True)
class Job:
    """A measured job."""

    folder: Path
    shards: list[Shard]
    rows: list[int]
    """Rows of each shard."""
    stats: dict[str, dict[str, Any]]
    """Per data set, what `load` noted about it."""
    changes: dict[str, dict[str, dict[str, int]]]
    """Per data set and editing step: rows that were changed, and changes of each kind."""
    measured: str
    """What decided the measures, as JSON."""

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """The job that `save` wrote; DataError when there is none."""
        path = folder / "job.json"
        if not path.exists():
            raise DataError(f"{folder}: holds no measured job (no job.json); measure the data sets again")
        saved = json.loads(path.read_text(encoding="utf-8"))
        shards = [Shard(**{**shard, "folder": ""}) for shard in saved["shards"]]
        return cls(folder, shards, saved["rows"], saved["stats"], saved["changes"], saved["measured"])

    def save(self) -> None:
        """Write job.json; the folders of the input are left out, because nothing is read from them again."""
        shards = [{name: value for name, value in asdict(shard).items() if name != "folder"} for shard in self.shards]
        content = {"shards": shards, "rows": self.rows, "stats": self.stats, "changes": self.changes}
        content["measured"] = self.measured
        write_whole(self.folder / "job.json", (json.dumps(content, ensure_ascii=False) + "\n").encode())

    def file(self, shard: Shard, name: str) -> Path:
        """`<job>/shards/00012/<name>`."""
        return self.folder / SHARDS / shard.name / name

    @cached_property
    def digest(self) -> str:
        """Tells jobs apart."""
        return hashlib.sha256((self.folder / "job.json").read_bytes()).hexdigest()

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """The number of the first row of each shard, and the number of all rows."""
        return np.concatenate(([0], np.cumsum(self.rows))).astype(np.int64)

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in their order."""
        return list(self.stats)

    def rows_of(self, dataset: str) -> int:
        """How many rows a data set has."""
        return sum(rows for shard, rows in zip(self.shards, self.rows, strict=True) if shard.dataset == dataset)

    def measures(self, shard: Shard, columns: Sequence[str] | None = None) -> "pa.Table":
        """The measures of a shard."""
        from pyarrow import parquet

        return parquet.read_table(self.file(shard, "measures.parquet"), columns=columns)

    def column(self, name: str, shards: Sequence[Shard]) -> list[Any]:
        """One measure of all rows of some shards."""
        return [value for shard in shards for value in self.measures(shard, [name])[name].to_pylist()]

    def texts(self, shards: Sequence[Shard], on: On) -> "Texts":
        """The texts of the rows of these shards, read from disk when they are asked for."""
        return Texts([self.file(shard, "") for shard in shards], on)


def stats_of(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What is known about each data set before it is filtered."""
    return {name: read_stats(folder) for name, folder in folders.items()}


class Texts(Sequence[str]):
    """Texts of rows on disk: each access reads one line, so that no job has to hold its texts."""

    def __init__(self, shards: Sequence[Path], on: On) -> None:
        self._files = [shard / "rows.jsonl" for shard in shards]
        self._offsets = [np.load(shard / "lines.npy", mmap_mode="r") for shard in shards]
        self._first = np.concatenate(([0], np.cumsum([len(offsets) - 1 for offsets in self._offsets])))
        self._on = on

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        line = index - int(self._first[shard])
        start, end = (int(offset) for offset in self._offsets[shard][line : line + 2])
        with self._files[shard].open("rb") as file:
            file.seek(start)
            return compared_text(json.loads(file.read(end - start)), self._on)

    def __iter__(self) -> Iterator[str]:
        for file in self._files:
            with file.open("rb") as lines:
                for line in lines:
                    yield compared_text(json.loads(line), self._on)

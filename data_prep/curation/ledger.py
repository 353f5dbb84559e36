"""The ledger: one line per input row with all measures and all reasons against it, to explain every drop."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from data_prep.curation.job import Shard
from data_prep.rows import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

    from data_prep.curation.duplicates import Duplicates


@dataclass(frozen=True)
class Verdicts:
    """What was decided about the rows of a shard."""

    failed: list[list[str]]
    """Per row the steps it fails, in their order."""
    reasons: list[list[str]]
    """Per row every reason, each with its step before it."""

    @classmethod
    def of(cls, names: Sequence[str], reasons: Mapping[str, Sequence[Sequence[str]]], rows: int) -> "Verdicts":
        """Put the steps' reasons together, in the order of `names`."""
        failed = [[name for name in names if reasons[name][row]] for row in range(rows)]
        listed = [[f"{name}: {reason}" for name in names for reason in reasons[name][row]] for row in range(rows)]
        return cls(failed, listed)

    @property
    def kept(self) -> list[bool]:
        """Whether each row is kept."""
        return [not failed for failed in self.failed]


def write_ledger(
    path: Path, shard: Shard, measures: "pa.Table", verdicts: Verdicts, duplicates: "Duplicates", ids: NDArray[Any]
) -> None:
    """Write a shard's part of the ledger; the same content gives the same bytes. `ids`: of all rows of the job."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = measures.num_rows
    decided: dict[str, Any] = {
        "id": measures["id"],
        "dataset": pa.array([shard.dataset] * rows, pa.string()),
        "split": pa.array([shard.split] * rows, pa.string()),
        "kept": pa.array(verdicts.kept, pa.bool_()),
        "dropped_by": pa.array([failed[0] if failed else None for failed in verdicts.failed], pa.string()),
        "reasons": pa.array(verdicts.reasons, pa.list_(pa.string())),
        "duplicate_of": pa.array(duplicates.witnesses(ids), pa.string()),
        "duplicate_similarity": pa.array(duplicates.similarities(), pa.float64()),
        "duplicate_group": pa.array(duplicates.groups(ids), pa.string()),
    }
    measured = {name: measures[name] for name in measures.column_names if name != "id"}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(decided | measured), buffer)
    write_whole(path, buffer.getvalue())


def join_ledgers(parts: Sequence[Path], path: Path) -> None:
    """One ledger of the shards' parts: a row group each, so that memory stays flat."""
    from pyarrow import parquet

    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    for part in parts:
        table = parquet.read_table(part, use_threads=False)
        writer = writer or parquet.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
        temporary.replace(path)

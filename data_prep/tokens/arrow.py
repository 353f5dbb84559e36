"""Token arrays on disk, as a `datasets` folder that a trainer memory-maps; equal rows give equal bytes."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_arrow(stream: Path, features: Any, batches: Iterable[dict[str, list[Any]]]) -> Path:
    """Columns of rows, batch by batch, into an arrow stream: memory stays flat."""
    import pyarrow as pa

    schema = features.arrow_schema
    with pa.OSFile(str(stream), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for columns in batches:
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
    return stream


def save_dataset(stream: Path, folder: Path) -> None:
    """Turn an arrow stream into a `datasets` folder, named by its content so that equal rows give equal bytes."""
    from datasets import Dataset
    from datasets.table import MemoryMappedTable
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with stream.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    shutil.rmtree(folder, ignore_errors=True)
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        Dataset(MemoryMappedTable.from_file(str(stream)), fingerprint=fingerprint).save_to_disk(str(folder))
    finally:
        if not quiet:
            enable_progress_bars()
    stream.unlink()

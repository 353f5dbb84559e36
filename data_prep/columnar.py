"""Parquet and Arrow files, read in batches of a few megabytes."""

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, cast

from data_prep.records import Record, too_long

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 4 * 2**20


def read_parquet(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """The rows of a parquet file; memory holds one compressed row group and a batch."""
    from pyarrow import parquet

    with parquet.ParquetFile(_seekable(stream), pre_buffer=False) as file:
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        rows = min(max(file.metadata.num_rows * _BATCH_BYTES // max(size, 1), 1), 65_536)
        # Group by group, without threads: else memory grows with the file.
        batches = (file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False) for group in groups)
        yield from _records(chain.from_iterable(batches), label, limit)


def read_arrow(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """The rows of an Arrow file or stream."""
    from pyarrow import ipc

    whole = _seekable(stream)
    is_file = whole.read(6) == b"ARROW1"
    whole.seek(0)
    if is_file:
        with ipc.open_file(whole) as reader:
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            yield from _records(batches, label, limit)
    else:
        yield from _records(ipc.open_stream(whole), label, limit)


def _records(batches: "Iterable[pa.RecordBatch]", label: str, limit: int) -> Iterator[Record]:
    number = 0
    for batch in batches:
        step = max(1, batch.num_rows * _BATCH_BYTES // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            if part.nbytes > limit:  # only then can one of its rows be too long
                for index in range(part.num_rows):
                    number += 1
                    yield _one(part.slice(index, 1), label, number, limit)
                continue
            for row in part.to_pylist():
                number += 1
                yield Record(label, number, row)


def _one(row: "pa.RecordBatch", label: str, number: int, limit: int) -> Record:
    if row.nbytes > limit:
        return Record(label, number, {}, too_long(row.nbytes, limit))
    return Record(label, number, row.to_pylist()[0])


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Columnar formats are read from their end: a compressed one is unpacked first, to a file without a name."""
    if isinstance(stream, io.BufferedReader) and stream.seekable():
        return stream
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (the caller reads on)
    shutil.copyfileobj(stream, unpacked)
    unpacked.seek(0)
    return cast(BinaryIO, unpacked)

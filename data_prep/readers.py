"""From files to records: one record per row of a file, with the place it stands at, or with what is wrong with it.

Trouble with one row is a broken record, which the caller refuses or counts; trouble with a whole file (truncated,
empty, of another kind than its name says) is a DataError. Every kind of file is read piece by piece.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from data_prep.columnar import read_arrow, read_parquet
from data_prep.errors import DataError
from data_prep.json_arrays import read_json
from data_prep.lines import read_csv, read_jsonl, read_tsv, read_txt
from data_prep.records import MAX_ROW_BYTES, Record
from data_prep.sources import file_kind

Reader = Callable[[BinaryIO, str, int], Iterator[Record]]


def read_file(path: Path, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Record]:
    """All records of one data file.

    Args:
        path: jsonl or json (an array, or one object per line), csv or tsv (with a header), parquet, arrow (stream or
            file format), or txt (one document per line, blank lines left out, as in `datasets` and LLaMA-Factory);
            each also compressed, `.gz` or `.zst`.
        max_row_bytes: a longer row is a broken record, and is not parsed.

    Raises:
        DataError: the file is empty, damaged or not what its name says.
    """
    reader = _READERS[cast(str, file_kind(path))]
    label, found = str(path), False
    try:
        with _open(path) as stream:
            for record in reader(stream, label, max_row_bytes):
                found = True
                yield record
    # gzip: EOFError, BadGzipFile (an OSError), zlib.error; pyarrow: ArrowInvalid (a ValueError) and OSError.
    except (EOFError, OSError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read ({reason}); it is damaged or incomplete: fetch it again") from error
    if not found:
        raise DataError(f"{path}: holds no rows; take it out of the source, or fetch it again")


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))  # pyright: ignore
    return path.open("rb")


_READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".txt": read_txt,
}

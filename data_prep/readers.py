"""From files to records: one record per row of a file, with the place it stands at, or with what is wrong with it.

Trouble with one row is a broken record, which the caller refuses or counts; trouble with a whole file (truncated,
empty, of another kind than its name says) is a DataError.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from data_prep.errors import DataError
from data_prep.sources import file_kind


@dataclass(frozen=True)
class Record:
    """One row of a file: `row` and an empty `error`, or an empty row and what is wrong. `line` counts from 1."""

    file: str
    line: int
    row: dict[str, Any]
    error: str = ""


Reader = Callable[[BinaryIO, str], Iterator[Record]]


def read_file(path: Path) -> Iterator[Record]:
    """All records of one data file.

    Args:
        path: jsonl or json (an array, or one object per line), csv or tsv (with a header), parquet, arrow (stream or
            file format), or txt (one document per line, blank lines left out, as in `datasets` and LLaMA-Factory);
            each also compressed, `.gz` or `.zst`.

    Raises:
        DataError: the file is empty, damaged or not what its name says.
    """
    reader = _READERS[cast(str, file_kind(path))]
    label, found = str(path), False
    try:
        with _open(path) as stream:
            for record in reader(stream, label):
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


def _lines(stream: Iterable[bytes]) -> Iterator[tuple[int, str, str]]:
    """Number, text and error of every line that is not blank; a byte-order mark is left out."""
    for number, line in enumerate(stream, start=1):
        body = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not body.strip():
            continue
        if b"\0" in body:
            yield number, "", "NUL byte (binary data, or UTF-16: save the file as UTF-8)"
            continue
        try:
            yield number, body.decode().rstrip("\r\n"), ""
        except UnicodeDecodeError as error:
            yield number, "", f"invalid UTF-8 at byte {error.start + 1}"


def _read_jsonl(stream: BinaryIO, label: str) -> Iterator[Record]:
    for number, text, error in _lines(stream):
        yield Record(label, number, {}, error) if error else _parse(text, label, number)


def _parse(text: str, label: str, number: int) -> Record:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return Record(label, number, {}, f"broken JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        return Record(label, number, {}, f"broken JSON ({error})")
    return _record(row, label, number)


def _record(row: object, label: str, number: int) -> Record:
    if isinstance(row, dict):
        return Record(label, number, cast(dict[str, Any], row))
    return Record(label, number, {}, f"the row is a JSON {_JSON_TYPES[type(row)]}, not an object")


def _read_json(stream: BinaryIO, label: str) -> Iterator[Record]:
    content = stream.read().removeprefix(b"\xef\xbb\xbf")
    if not content.lstrip().startswith(b"["):
        yield from _read_jsonl(cast(BinaryIO, io.BytesIO(content)), label)
        return
    try:
        rows = json.loads(content)
    except UnicodeDecodeError as error:
        raise DataError(f"{label}: invalid UTF-8 at byte {error.start + 1}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"{label}:{error.lineno}: broken JSON ({error.msg} at column {error.colno})"
        raise DataError(f"{place}; fix it: the rows of a damaged array cannot be told apart") from error
    except RecursionError as error:
        raise DataError(f"{label}: broken JSON (nested too deeply); fix the file") from error
    for number, row in enumerate(rows, start=1):
        yield _record(row, label, number)


def _read_csv(stream: BinaryIO, label: str, delimiter: str = ",") -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # the default refuses documents above 128 KiB
    # Undecodable bytes become lone surrogates, so that one bad row does not end the reading of the others.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise DataError(f"{label}:1: the header repeats a column name ({', '.join(header)}); rename it")
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise DataError(f"{label}:{rows.line_num}: a quote is never closed; fix the file") from error
            yield Record(label, rows.line_num, {}, f"broken CSV ({error})")
            continue
        if fields:
            yield _csv_record(fields, header, label, rows.line_num)


def _csv_record(fields: list[str], header: list[str], label: str, line: int) -> Record:
    if len(fields) != len(header):
        return Record(label, line, {}, f"broken CSV ({len(fields)} fields, but the header has {len(header)})")
    if any("\0" in field for field in fields):
        return Record(label, line, {}, "NUL byte (binary data, or UTF-16: save the file as UTF-8)")
    # A column without a name is the row number that pandas writes.
    return Record(label, line, {name: field for name, field in zip(header, fields, strict=True) if name})


def _read_tsv(stream: BinaryIO, label: str) -> Iterator[Record]:
    return _read_csv(stream, label, delimiter="\t")


def _read_parquet(stream: BinaryIO, label: str) -> Iterator[Record]:
    from pyarrow import parquet

    batches = parquet.ParquetFile(_seekable(stream)).iter_batches()
    yield from _number((row for batch in batches for row in batch.to_pylist()), label)


def _read_arrow(stream: BinaryIO, label: str) -> Iterator[Record]:
    from pyarrow import ipc

    whole = _seekable(stream)
    is_file = whole.read(6) == b"ARROW1"
    whole.seek(0)
    if is_file:
        with ipc.open_file(whole) as reader:
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    else:
        batches = ipc.open_stream(whole)
    yield from _number((row for batch in batches for row in batch.to_pylist()), label)


def _read_txt(stream: BinaryIO, label: str) -> Iterator[Record]:
    for number, text, error in _lines(stream):
        yield Record(label, number, {} if error else {"text": text}, error)


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Columnar formats are read from their end: a compressed one has to be unpacked first."""
    return stream if isinstance(stream, io.BufferedReader) and stream.seekable() else io.BytesIO(stream.read())


def _number(rows: Iterable[dict[str, Any]], label: str) -> Iterator[Record]:
    return (Record(label, number, row) for number, row in enumerate(rows, start=1))


_JSON_TYPES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
_READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".txt": _read_txt,
}

"""Files of one row per line (jsonl, txt, csv, tsv), read in memory that a single huge line cannot fill."""

import csv
import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from data_prep.errors import DataError
from data_prep.records import Record, object_record, too_long

_SKIP_BYTES = 2**20
_NUL = "NUL byte (binary data, or UTF-16: save the file as UTF-8)"
# Stands for a line of csv that was too long to be read; a NUL cannot come from a file, because it is refused there.
_TOO_LONG_MARK = "\0too long:"
_TOO_LONG = re.compile("\0too long:([0-9]+)")
# A lone \r ends a line of csv too; str.splitlines would also split at U+2028.
_PHYSICAL_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")


def read_jsonl(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """One JSON object per line."""
    for number, text, error in _lines(stream, limit):
        yield Record(label, number, {}, error) if error else _parse(text, label, number)


def read_txt(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """One document per line."""
    for number, text, error in _lines(stream, limit):
        yield Record(label, number, {} if error else {"text": text}, error)


def read_csv(stream: BinaryIO, label: str, limit: int, delimiter: str = ",") -> Iterator[Record]:
    """Rows under a header; a quoted field may hold line ends."""
    csv.field_size_limit(limit)
    rows = csv.reader(_csv_lines(stream, limit), delimiter=delimiter, strict=True)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise DataError(f"{label}:1: the header repeats a column name ({', '.join(header)}); rename it")
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                advice = "fix the file" if "unexpected end" in str(error) else "fix the file, or raise max_row_bytes"
                raise DataError(f"{label}:{rows.line_num}: a quote is never closed; {advice}") from error
            yield Record(label, rows.line_num, {}, f"broken CSV ({error})")
            continue
        if fields:
            yield _csv_record(fields, header, label, rows.line_num, limit)


def read_tsv(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """Like `read_csv`, with tabs."""
    return read_csv(stream, label, limit, delimiter="\t")


def _bounded(stream: BinaryIO, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """Every line, its length in bytes and its quotes; of a line above `limit` only the beginning is held in memory."""
    while line := stream.readline(limit + 2):
        size, quotes = len(line), 0
        if size > limit + 1 and not line.endswith(b"\n"):
            quotes = line.count(b'"')
            while not line.endswith(b"\n") and (line := stream.readline(_SKIP_BYTES)):
                size += len(line)
                quotes += line.count(b'"')
            size -= line.endswith(b"\n")
            line = b""
        yield line, size, quotes


def _lines(stream: BinaryIO, limit: int) -> Iterator[tuple[int, str, str]]:
    """Number, text and error of every line that is not blank; a byte-order mark is left out."""
    for number, (line, size, _) in enumerate(_bounded(stream, limit), start=1):
        body = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line:
            yield number, "", too_long(size, limit)
        elif b"\0" in body:
            yield number, "", _NUL
        elif body.strip():
            try:
                yield number, body.decode().rstrip("\r\n"), ""
            except UnicodeDecodeError as error:
                yield number, "", f"invalid UTF-8 at byte {error.start + 1}"


def _parse(text: str, label: str, number: int) -> Record:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return Record(label, number, {}, f"broken JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        return Record(label, number, {}, f"broken JSON ({error})")
    return object_record(row, label, number)


def _csv_lines(stream: BinaryIO, limit: int) -> Iterator[str]:
    """The lines for the csv reader. Undecodable bytes become lone surrogates, so that one bad row ends only itself.

    A line that is too long becomes a mark, with a quote where it held an odd number of them: the reader goes on as if
    it had read the line.
    """
    quoted = False
    for number, (line, size, quotes) in enumerate(_bounded(stream, limit)):
        odd = (quotes or line.count(b'"')) % 2 == 1
        opens, closes = odd and not quoted, odd and quoted
        quoted ^= odd
        if not line:
            yield '"' * opens + f"{_TOO_LONG_MARK}{size}" + '"' * closes + "\n"
            continue
        body = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        text = body.decode(errors="surrogateescape")
        yield from _PHYSICAL_LINE.findall(text) if b"\r" in body else [text]


def _csv_record(fields: list[str], header: list[str], label: str, line: int, limit: int) -> Record:
    long = next((found for field in fields if (found := _TOO_LONG.search(field))), None)
    if long:
        return Record(label, line, {}, too_long(int(long[1]), limit))
    if len(fields) != len(header):
        return Record(label, line, {}, f"broken CSV ({len(fields)} fields, but the header has {len(header)})")
    if any("\0" in field for field in fields):
        return Record(label, line, {}, _NUL)
    # A column without a name is the row number that pandas writes.
    return Record(label, line, {name: field for name, field in zip(header, fields, strict=True) if name})

"""JSON files: an array, read element by element so that its largest element decides the memory; or one row per line."""

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from data_prep.errors import DataError
from data_prep.lines import read_jsonl
from data_prep.records import Record, object_record, too_long

_CHUNK_BYTES = 2**20
_SPACE = " \t\r\n"
_BOM = b"\xef\xbb\xbf"


def read_json(stream: BinaryIO, label: str, limit: int) -> Iterator[Record]:
    """The elements of an array, or one object per line."""
    start = stream.peek(_CHUNK_BYTES) if hasattr(stream, "peek") else b""  # type: ignore[attr-defined]
    if not start.removeprefix(_BOM).lstrip().startswith(b"["):
        yield from read_jsonl(stream, label, limit)
        return
    array = _Array(stream, label, limit)
    for number, element in enumerate(array.elements(), start=1):
        yield object_record(element, label, number)


class _Array:
    """A window over the text of an array, filled as far as the next element needs."""

    def __init__(self, stream: BinaryIO, label: str, limit: int) -> None:
        self._stream, self._label, self._limit = stream, label, limit
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder().raw_decode
        self._window, self._at, self._read, self._ended = "", 0, 0, False
        self._lines_before, self._columns_before = 0, 0

    def elements(self) -> Iterator[object]:
        """The elements, one by one; DataError where the array is broken."""
        self._expect("[")
        if self._next() == "]":
            self._expect("]")
        else:
            while True:
                yield self._element()
                if self._next() != ",":
                    break
                self._expect(",")
            self._expect("]")
        if self._next():
            self._break("Extra data", self._at)

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._window) or not self._fill(_CHUNK_BYTES):
                return self._window[self._at : self._at + 1]

    def _expect(self, character: str) -> None:
        if self._next() != character:
            self._break("Expecting ',' delimiter" if character == "]" else f"Expecting '{character}'", self._at)
        self._at += 1

    def _element(self) -> object:
        """The next element: tried, and tried again with twice the text while it is not complete."""
        self._next()
        while True:
            try:
                element, end = self._scan(self._window, self._at)
                length = end - self._at
                # A number at the very end may go on in what is not read yet.
                if end < len(self._window) or not self._fill(_CHUNK_BYTES):
                    self._at += length
                    return element
                continue
            except json.JSONDecodeError as found:
                problem, beyond = found.msg, found.pos - self._at
            except RecursionError as found:
                raise DataError(f"{self._label}: broken JSON (nested too deeply); fix the file") from found
            held = len(self._window) - self._at
            if held > self._limit:
                self._break(f"{problem}; or an element {too_long(held, self._limit)}", self._at + beyond)
            if not self._fill(max(held, _CHUNK_BYTES)):
                self._break(problem, self._at + beyond)

    def _fill(self, size: int) -> bool:
        """Add about `size` bytes to the window, and forget what was read; False at the end of the file."""
        if self._ended:
            return False
        chunk = self._stream.read(size)
        self._ended = not chunk
        pending = len(self._decode.getstate()[0])
        try:
            text = self._decode.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            place = self._read - pending + error.start + 1
            raise DataError(f"{self._label}: invalid UTF-8 at byte {place}; save the file as UTF-8") from error
        self._read += len(chunk)
        self._forget()
        self._window += text
        return not self._ended

    def _forget(self) -> None:
        done = self._window[: self._at]
        lines = done.count("\n")
        self._lines_before += lines
        self._columns_before = len(done) - done.rfind("\n") - 1 if lines else self._columns_before + len(done)
        self._window, self._at = self._window[self._at :], 0

    def _break(self, problem: str, position: int) -> None:
        before = self._window[:position]
        lines = before.count("\n")
        column = position - before.rfind("\n") if lines else self._columns_before + position + 1
        place = f"{self._label}:{self._lines_before + lines + 1}: broken JSON ({problem} at column {column})"
        raise DataError(f"{place}; fix it: the rows of a damaged array cannot be told apart")

"""One job shared by several processes: each computes its share of the rows and keeps them in a file of its own.

Ranks, tasks of Ray and one process alone differ only in who runs the shares. With a share taken (`taking`), `predict`
and `predict_task` compute the rows of that share and nothing else. Afterwards the same call without a share finds all
rows in the files of the shares, and writes them in the order of the rows. What it does not find it computes itself.

    <name>.partial                 of a process alone
    <name>.partial.<i>-of-<n>      of share i of n; read by every later start, whatever its number of shares

A share is fixed: every n-th row, or every n-th batch where rows are computed in batches that must not change. Work that
is handed out as it comes would balance better, and make what is batched together depend on chance.
"""

import contextlib
import fcntl
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Which part of a job a process computes."""

    index: int
    total: int

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its items: every `total`-th, so that neighbours of similar length are spread evenly."""
        return items[self.index :: self.total]


class ShareKept(Exception):
    """Raised where a share's rows are all kept, and who merges the shares goes on."""


_taken: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def taking(share: Share) -> Iterator[None]:
    """Within it this process computes one share of each measure and merges nothing."""
    before = _taken.set(share)
    try:
        yield
    finally:
        _taken.reset(before)


def taken() -> Share | None:
    """The share of this process; None where it computes and merges all."""
    return _taken.get()


class KeptRows:
    """The finished rows of a job, of all its processes; what this process adds goes to its own file at once."""

    def __init__(self, path: Path, key: str):
        """`path`: of a process alone; rows made from another `key` do not count."""
        self._key, share = key, taken()
        self._own = path if share is None else path.with_name(f"{path.name}.{share.index}-of-{share.total}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, Any]] = {}
        """By id."""
        self._file = self._own.open("a+b")
        # Of a share given up for lost somebody may still hold the file: two would write into each other's lines.
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._go_on()
        for file in files_of(path):
            self.rows |= {row["id"]: row for row in _rows_of(file, key)}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep finished rows: a process that is killed now has lost none of them."""
        fresh = list(rows)
        self._file.write(b"".join(map(line_of, fresh)))
        self._file.flush()
        self.rows |= {row["id"]: dict(row) for row in fresh}

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _go_on(self) -> None:
        """Cut a torn last line off; begin anew where the file is of another key."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if _parsed(content[:whole].partition(b"\n")[0]) == {"key": self._key}:
            self._file.truncate(whole)
            return
        self._file.truncate(0)
        self._file.write(line_of({"key": self._key}))
        self._file.flush()


def files_of(path: Path) -> list[Path]:
    """The partial files of a job: of a process alone, and of shares."""
    names = [str(path), *glob.glob(f"{glob.escape(str(path))}.*-of-*")]
    return sorted(file for file in map(Path, names) if file.exists())


def forget(path: Path) -> None:
    """Remove the partial files of a job whose finished file is written."""
    for file in files_of(path):
        file.unlink(missing_ok=True)


def with_shares(numbers: Mapping[str, float], shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The numbers of the merging call, with the time that the slowest share took before it."""
    told = dict(numbers)
    for name in [name for name in numbers if name.endswith("_tokens_per_second")]:
        measure = name.removesuffix("_tokens_per_second")
        slowest = max((share.get(f"{measure}_seconds", 0.0) for share in shares), default=0.0)
        told[f"{measure}_seconds"] = numbers[f"{measure}_seconds"] + slowest
        told[name] = numbers[f"{measure}_tokens"] / told[f"{measure}_seconds"]
    return told


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as a line of a predictions file. ValueError for NaN."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _rows_of(file: Path, key: str) -> Iterator[dict[str, Any]]:
    """The whole rows of a partial file; none where it was made from another key. What cannot be read is made again."""
    lines = file.read_bytes().split(b"\n")[:-1]  # what follows the last \n is torn
    if lines and _parsed(lines[0]) == {"key": key}:
        yield from (row for line in lines[1:] if "id" in (row := _parsed(line)))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

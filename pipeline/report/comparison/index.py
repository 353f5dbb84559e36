"""An index of the runs in a folder: SQLite over the report.json files, so that only new and changed ones are read."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pipeline.report.comparison.entry import Entry, entry_from_json, entry_of
from pipeline.report.load import ReportError

INDEX = "index.sqlite"
_FORMAT = 2
"""Raised when an entry holds something else: an older index is then made again."""


def runs_in(folder: Path) -> list[Path]:
    """The run folders directly below a folder; the link `latest` is no run of its own."""
    return sorted(file.parent for file in folder.glob("*/report.json") if not file.parent.is_symlink())


def read_index(folder: Path) -> tuple[list[Entry], list[str]]:
    """Every run in a folder, oldest first, and one line for each report that cannot be read.

    The index is written beside the runs; where nothing can be written, or where it is damaged, all reports are read.
    """
    with _connected(folder / INDEX) as index:
        known = {row[0]: (row[1:3], row[3]) for row in index.execute("SELECT name, size, time, entry FROM runs")}
        entries, refused, fresh = [], [], []
        for run in runs_in(folder):
            stat = (run / "report.json").stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if run.name in known and known[run.name][0] == stamp:
                entries.append(entry_from_json(json.loads(known[run.name][1]) | {"folder": str(run)}))
                continue
            try:
                entry = entry_of(_read(run / "report.json"), run)
            except ReportError as error:
                refused.append(str(error))
                continue
            entries.append(entry)
            fresh.append((run.name, *stamp, json.dumps(entry.as_json())))
        gone = [(name,) for name in known if not (folder / name / "report.json").exists()]
        with contextlib.suppress(sqlite3.Error), index:  # another comparison may hold the lock; it writes the same
            index.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", fresh)
            index.executemany("DELETE FROM runs WHERE name = ?", gone)
    return sorted(entries, key=lambda entry: (entry.started, entry.id)), refused


def read_entry(run: Path) -> Entry:
    """One run, without an index. Raises ReportError."""
    return entry_of(_read(run / "report.json"), run)


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ReportError(f"{file}: no such file; a run writes it when it ends, also when it fails") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{file}: cannot be read ({type(error).__name__}); run the pipeline again") from None


@contextlib.contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    """The index with its table; in memory where the file cannot be used."""
    try:
        connection = _opened(str(file))
    except sqlite3.Error:
        with contextlib.suppress(OSError):
            file.unlink()
        try:
            connection = _opened(str(file))
        except sqlite3.Error:
            connection = _opened(":memory:")
    try:
        yield connection
    finally:
        connection.close()


def _opened(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=5)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
            connection.execute("DROP TABLE IF EXISTS runs")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("CREATE TABLE IF NOT EXISTS runs (name TEXT PRIMARY KEY, size INT, time INT, entry TEXT)")
        connection.commit()
    except sqlite3.Error:
        connection.close()
        raise
    return connection

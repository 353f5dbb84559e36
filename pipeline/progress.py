"""Progress from a worker to the person who waits: events in a file, shown as bars or as sparse plain lines.

A worker appends JSON lines to `logs/events.jsonl` of its artifact. The same file serves a child process, the ranks of
torchrun and a later reader, and survives a crash.
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")

EVENTS = "events.jsonl"
REPORT_EVERY = 0.2
"""Seconds between two events of one loop: more would only cost time."""


class EventWriter:
    """The worker's side."""

    def __init__(self, file: Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", encoding="utf-8")

    def send(self, event: str, **values: Any) -> None:
        """Append one event, at once."""
        self._file.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        self._file.flush()

    def track(self, items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
        """Pass items through and tell how far they have come (a `data_prep.progress.Track`)."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # pyright: ignore[reportArgumentType]
        self.advance(title, 0, total)
        told, done = time.monotonic(), 0
        for done, item in enumerate(items, start=1):  # noqa: B007 (the count is told after the loop)
            yield item
            if time.monotonic() - told >= REPORT_EVERY:
                self.advance(title, done, total)
                told = time.monotonic()
        self.advance(title, done, total)

    def advance(self, title: str, done: int, total: int | None, note: str = "") -> None:
        """Tell that `done` of `total` items of a loop are finished."""
        self.send("progress", title=title, done=done, total=total, note=note)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class EventReader:
    """The parent's side: new events since the last look."""

    def __init__(self, file: Path, offset: int | None = None):
        """`offset`: where new events begin; without it, at the file's end."""
        end = file.stat().st_size if file.exists() else 0
        self._path, self.offset = file, end if offset is None else offset

    def read(self) -> list[dict[str, Any]]:
        """Whole lines that were added; a line still being written waits for the next look."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self.offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

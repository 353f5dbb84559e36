"""Put lines in the order of their keys on disk, in memory that does not grow with their number.

Lines go to buckets by the first two characters of their key, and each bucket is sorted by itself; a bucket that is too
large is cut again where its keys begin to differ. What comes out follows from the lines alone.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, zip_longest
from pathlib import Path

_HELD_BYTES = 8 * 2**20
_BUCKET_BYTES = 32 * 2**20


class Spool:
    """A folder of buckets. Keys hold hexadecimal digits and hyphens, lines no line end.

    Only lines of one and the same key are all held at once, and of these the equal ones only as their number.
    """

    def __init__(self, folder: Path, offset: int = 0, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._folder, self._offset, self._limit = folder, offset, bucket_bytes
        self._held: dict[str, list[bytes]] = {}
        self._held_bytes = 0
        self._ranges: dict[str, tuple[str, str]] = {}
        folder.mkdir(parents=True)

    def add(self, key: str, line: bytes) -> None:
        """Take in one line."""
        bucket = key[self._offset : self._offset + 2]
        self._held.setdefault(bucket, []).append(b"%b\t%b\n" % (key.encode(), line))
        first, last = self._ranges.get(bucket, (key, key))
        self._ranges[bucket] = (min(first, key), max(last, key))
        self._held_bytes += len(line) + 100  # what Python adds to a short line
        if self._held_bytes > _HELD_BYTES:
            self._flush()

    def groups(self) -> Iterator[tuple[str, Counter[bytes]]]:
        """Each key in order, with its lines and how often each was added; to be asked for once, at the end."""
        self._flush()
        for bucket in sorted(self._ranges):
            path, (first, last) = self._path(bucket), self._ranges[bucket]
            if path.stat().st_size > self._limit and first != last:
                yield from self._cut(path, first, last).groups()
            else:
                yield from _sorted_groups(path)
            path.unlink()

    def _cut(self, path: Path, first: str, last: str) -> "Spool":
        differ = next(at for at, (one, other) in enumerate(zip_longest(first, last)) if one != other)
        spool = Spool(path.with_suffix(".cut"), differ, self._limit)
        with path.open("rb") as lines:
            for line in lines:
                key, _, body = line.rstrip(b"\n").partition(b"\t")
                spool.add(key.decode(), body)
        return spool

    def _flush(self) -> None:
        for bucket, lines in self._held.items():
            with self._path(bucket).open("ab") as file:
                file.writelines(lines)
        self._held, self._held_bytes = {}, 0

    def _path(self, bucket: str) -> Path:
        return self._folder / f"b{bucket}"


def _sorted_groups(path: Path) -> Iterator[tuple[str, Counter[bytes]]]:
    with path.open("rb") as lines:
        counts = Counter(lines)
    for key, group in groupby(sorted(counts), key=lambda line: line.partition(b"\t")[0]):
        yield key.decode(), Counter({line[len(key) + 1 : -1]: counts[line] for line in group})


@contextmanager
def spill_folder(out: Path) -> Iterator[Path]:
    """A place for spools inside `out`, gone afterwards, as is an `out` that nothing was written to."""
    spill = out / ".spill"
    shutil.rmtree(spill, ignore_errors=True)  # of a run that was killed
    spill.mkdir(parents=True)
    try:
        yield spill
    finally:
        shutil.rmtree(spill, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()

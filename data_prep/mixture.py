"""Several dataset folders as one: shares and passes per data set, in an order that the seed decides.

Every pass over a data set goes through its rows in an order of its own, the order of a hash of seed, data set, id and
pass; and all data sets run from the beginning of the mixture to its end, so that any stretch of it has their shares.
Nothing but the hashes decides, so it does not matter who counts, or in which order the parts are named.
"""

import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from data_prep.config import Mixture
from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row, iterate_lines, shape_of, write_splits, write_stats
from data_prep.shares import rows_of_parts
from data_prep.spool import Spool, spill_folder

_ID = re.compile(rb'\{"id": "([^"\\]*)"')
_HASHES = 2**64


@dataclass(frozen=True)
class Line:
    """A row as it stands in a file."""

    identity: str
    name: str
    """The data set it comes from."""
    rest: bytes
    """What follows the id."""

    def named(self, identity: str) -> bytes:
        """The row under another id."""
        return b'{"id": "%b"%b' % (identity.encode(), self.rest)


@dataclass(frozen=True)
class Passes:
    """How often the rows of a data set are taken: `whole` times, and those up to `last` once more."""

    name: str
    seed: int
    available: int
    rows: int
    last: tuple[int, str]

    @property
    def whole(self) -> int:
        """Complete passes."""
        return self.rows // self.available

    def places(self, identity: str) -> Iterator[tuple[int, str]]:
        """Each pass that takes a row, from 1, and its place in the mixture as 16 hexadecimal digits."""
        for number in range(1, self.whole + 2):
            drawn = draw(self.seed, self.name, identity, number)
            if number <= self.whole or (drawn, identity) <= self.last:
                place = ((number - 1) * _HASHES + drawn) * self.available // self.rows
                yield number, f"{min(place, _HASHES - 1):016x}"


def mix(folders: Mapping[str, Path], config: Mixture, out: Path, track: Track = silent) -> dict[str, Any]:
    """Mix the dataset folders of the parts into the dataset folder `out`.

    train.jsonl holds the rows in the order of the mixture, not of their ids. The second time a row is taken its id gets
    `~2`, the third `~3`. Validation and test rows are united, sorted by id, and never repeated. A row whose id another
    data set has too gets `@NAME`; in validation and test it is left out when the rows are equal. Memory does not grow
    with the rows; `out/.spill` holds the mixture once while it is made.

    Returns:
        What stats.json holds: rows, read, splits, format, role, shared_ids, repeated (rows left out), and under
        `mixture` per data set: available, rows, weight, epochs_asked, share_asked, share, epochs.

    Raises:
        DataError: a part is missing or has no rows, the shares cannot be had, kinds of rows do not go together.
    """
    if set(folders) != set(config.parts):
        odd = sorted(set(folders) ^ set(config.parts))[0]
        raise DataError(
            f"mixture.parts: {odd} is not both a part and a data set; they are {', '.join(sorted(folders))}"
        )
    _check_kinds(folders)
    available = {name: sum(1 for _ in _lines(folders, name, "train")) for name in sorted(folders)}
    rows = rows_of_parts(config, available)
    passes = {name: _passes(folders, name, config.seed, available[name], rows[name]) for name in rows}
    shared = Counter[str]()
    with spill_folder(out) as spill:
        spool = Spool(spill / "mixture")
        taken = track(_merged(folders, "train"), "mixture: draw", total=sum(available.values()))
        for line, identity in _distinct(taken, shared, equal_rows="rename"):
            for number, place in passes[line.name].places(line.identity):
                spool.add(place, line.named(identity if number == 1 else f"{identity}~{number}"))
        counts = _write(spool, folders, out, shared)
    stats = _stats(config, available, rows, counts, shared)
    write_stats(out, stats)
    return stats


def _write(spool: Spool, folders: Mapping[str, Path], out: Path, shared: Counter[str]) -> Counter[str]:
    """The mixture as the train split, and the other splits united; how many rows each has."""
    counts = Counter[str]()
    with write_splits(out) as write:
        for _, lines in spool.groups():
            for line in sorted(lines.elements()):
                counts["train"] += 1
                write("train", line)
        for split in ("validation", "test"):
            for line, identity in _distinct(_merged(folders, split), shared, equal_rows="drop"):
                counts[split] += 1
                write(split, line.named(identity))
    return counts


def draw(seed: int, name: str, identity: str, number: int) -> int:
    """A number from 0 to 2^64 - 1: the place of a row in one pass over its data set."""
    content = json.dumps([seed, name, identity, number]).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _passes(folders: Mapping[str, Path], name: str, seed: int, available: int, rows: int) -> Passes:
    """With the last place that the incomplete pass takes: the k-th smallest of all, found by counting, not sorting."""
    whole, more = divmod(rows, available)
    if not more:
        return Passes(name, seed, available, rows, (-1, ""))
    drawn = ((draw(seed, name, line.identity, whole + 1), line.identity) for line in _lines(folders, name, "train"))
    counts = Counter(number >> 48 for number, _ in drawn)
    before, digits = 0, iter(sorted(counts))
    digit = next(digits)
    while before + counts[digit] < more:
        before += counts[digit]
        digit = next(digits)
    drawn = ((draw(seed, name, line.identity, whole + 1), line.identity) for line in _lines(folders, name, "train"))
    return Passes(name, seed, available, rows, sorted(one for one in drawn if one[0] >> 48 == digit)[more - before - 1])


def _lines(folders: Mapping[str, Path], name: str, split: str) -> Iterator[Line]:
    """The rows of one data set, which must be sorted by id."""
    last = ""
    for line in iterate_lines(folders[name], split):
        found = _ID.match(line)
        if not found:
            raise DataError(f"{folders[name]}: a row of {split} does not begin with its id; load the data again")
        identity = found[1].decode()
        if identity <= last:
            advice = "mix data sets that come from loading or filtering"
            raise DataError(f"{folders[name]}: {split} is not sorted by id ({identity} after {last}); {advice}")
        last = identity
        yield Line(identity, name, line[found.end() :])


def _merged(folders: Mapping[str, Path], split: str) -> Iterator[Line]:
    sources = [_lines(folders, name, split) for name in sorted(folders)]
    return heapq.merge(*sources, key=lambda line: (line.identity, line.name))


def _distinct(lines: Iterator[Line], shared: Counter[str], equal_rows: str) -> Iterator[tuple[Line, str]]:
    """Each row with an id of its own: the first keeps it, a row of another data set is renamed, or dropped as equal."""
    for identity, group in groupby(lines, key=lambda line: line.identity):
        first, *others = group
        yield first, identity
        for other in others:
            if equal_rows == "drop" and _content(first) == _content(other):
                shared["repeated"] += 1
            else:
                shared["ids"] += 1
                yield other, f"{identity}@{other.name}"


def _content(line: Line) -> Row:
    row = json.loads(line.named(line.identity))
    return {name: value for name, value in row.items() if name not in ("source", "meta")}


def _check_kinds(folders: Mapping[str, Path]) -> None:
    """Pairs, judged answers and answers to learn train differently: one mixture holds one of them."""
    kinds: dict[str, str] = {}
    for name in sorted(folders):
        line = next(_lines(folders, name, "train"), None)
        row = _content(line) if line else {"text": ""}
        kind = "judged" if "label" in row and "completion" in row else shape_of(row)
        kinds.setdefault(kind if kind in ("judged", "preference") else "plain", name)
    if len(kinds) > 1:
        found = ", ".join(f"{name} has {kind} rows" for kind, name in sorted(kinds.items()))
        raise DataError(f"mixture.parts: {found}; mix data sets of one kind")


def _stats(
    config: Mixture, available: dict[str, int], rows: dict[str, int], counts: Counter[str], shared: Counter[str]
) -> dict[str, Any]:
    weights = sum(part.weight or 0 for part in config.parts.values())
    weighted = sum(rows[name] for name, part in config.parts.items() if part.weight is not None)
    parts = {}
    for name in sorted(rows):
        part, total = config.parts[name], sum(rows.values())
        asked = part.weight / weights * weighted / total if part.weight is not None else None
        parts[name] = {
            "available": available[name],
            "rows": rows[name],
            "weight": part.weight,
            "epochs_asked": part.epochs if part.weight is not None else part.epochs or 1.0,
            "share_asked": None if asked is None else round(asked, 6),
            "share": round(rows[name] / total, 6),
            "epochs": round(rows[name] / available[name], 6),
        }
    return {
        "rows": counts.total(),
        "read": counts.total(),
        "splits": {split: counts[split] for split in ("train", "validation", "test")},
        "format": "mixture",
        "role": "train",
        "shared_ids": shared["ids"],
        "repeated": shared["repeated"],
        "mixture": parts,
    }

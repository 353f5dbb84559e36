"""The texts that a classifier learns from: read, made unique, and divided by their content."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.readers import read_file
from data_prep.sources import resolve_files

CLASSES = {"0": False, "false": False, "1": True, "true": True}


@dataclass
class Examples:
    """Unique texts with their class, and what was left out."""

    texts: list[str] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Name and sha256 of each file."""
    left_out: dict[str, int] = field(default_factory=lambda: {"empty": 0, "repeated": 0, "contradictory": 0})


def read_examples(
    positive: Sequence[str],
    negative: Sequence[str],
    labelled: Sequence[str],
    text_column: str,
    label_column: str,
    labels: tuple[str, str],
) -> Examples:
    """All texts of the sources, each once; a text that stands in both classes is left out.

    Raises:
        DataError: a class has no texts, or a row no text or no valid label.
    """
    found, classes = Examples(), dict[str, bool | None]()
    texts: dict[str, str] = {}
    for text, label in _all_rows(positive, negative, labelled, (text_column, label_column), labels, found):
        key = content_key(text)
        if not text.strip():
            found.left_out["empty"] += 1
        elif key not in classes:
            classes[key], texts[key] = label, text
        elif classes[key] == label:
            found.left_out["repeated"] += 1
        else:
            found.left_out["contradictory"] += 1
            classes[key] = None
    kept = sorted((key, text, label) for key, text in texts.items() if (label := classes[key]) is not None)
    found.texts, found.labels = [text for _, text, _ in kept], [label for _, _, label in kept]
    for wanted, name in ((True, labels[1]), (False, labels[0])):
        if wanted not in found.labels:
            raise DataError(f"train-quality: no text of the class {name} ({_counted(found)}); add files of that class")
    return found


def content_key(text: str) -> str:
    """Equal for texts that differ only in case and white space; sorted by it, rows of every source are mixed."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "surrogatepass")).hexdigest()


def share_of(text: str, seed: int) -> float:
    """A number in [0, 1) that follows from the text and the seed: equal texts always fall on the same side."""
    digest = hashlib.sha256(f"{seed}:{content_key(text)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _all_rows(
    positive: Sequence[str],
    negative: Sequence[str],
    labelled: Sequence[str],
    columns: tuple[str, str],
    labels: tuple[str, str],
    found: Examples,
) -> Iterator[tuple[str, bool]]:
    for label, sources in ((True, positive), (False, negative)):
        for row, place in _rows(sources, found):
            yield _text(row, columns[0], place), label
    for row, place in _rows(labelled, found):
        yield _text(row, columns[0], place), _class(row, columns[1], labels, place)


def _rows(sources: Iterable[str], found: Examples) -> Iterator[tuple[dict[str, Any], str]]:
    for source in sources:
        files = resolve_files(source)
        if not files:
            raise DataError(f"{source}: does not exist; give a local file or glob")
        for path in files:
            found.files[path.name] = _sha256(path)
            for record in read_file(path):
                place = f"{record.file}:{record.line}"
                if record.error:
                    raise DataError(f"{place}: {record.error}; take the row out")
                yield record.row, place


def _text(row: dict[str, Any], column: str, place: str) -> str:
    if column not in row:
        raise DataError(f"{place}: no column {column} (it has {', '.join(row)}); name it with text_column")
    if not isinstance(row[column], str):
        raise DataError(f"{place}: {column} is no text but {type(row[column]).__name__}; take the row out")
    return row[column]


def _class(row: dict[str, Any], column: str, labels: tuple[str, str], place: str) -> bool:
    if column not in row:
        raise DataError(f"{place}: no column {column} (it has {', '.join(row)}); name it with label_column")
    value = row[column]
    name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    known = CLASSES | {labels[0].lower(): False, labels[1].lower(): True}
    if name.lower() not in known:
        allowed = f"0, 1, false, true, {labels[0]}, {labels[1]}"
        raise DataError(f"{place}: {column} is {name[:40]!r}, allowed are {allowed}; name your classes with labels")
    return known[name.lower()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counted(found: Examples) -> str:
    return f"{len(found.texts)} texts, " + ", ".join(f"{count} {name}" for name, count in found.left_out.items())

"""The receipt of a finished task: what proves, on a second start, that it need not run again.

    <folder>/<task>/            everything that the task wrote, and
    <folder>/<task>/done.json   its key, its files with size and XXH3-128 checksum, its result, and a checksum of these

The folder appears by one rename, so there is never half of it. A receipt tells nothing of the engine, the machine or
the time: equal tasks leave equal bytes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel

RECEIPT = "done.json"
NOT_IN_KEY = {"in_key": False}
"""`field(metadata=NOT_IN_KEY)`: a field of a task that changes nothing of what it makes, or that `version` covers."""


def task_key(work: Callable[..., Any], task: Any, version: str) -> str:
    """Hex sha256 of all that decides what a task makes: the function, the task's fields, and the caller's version."""
    identity = [f"{work.__module__}.{work.__qualname__}", _plain(task), version]
    return hashlib.sha256(_canonical(identity)).hexdigest()


def write_receipt(part: Path, key: str, result: Any) -> str:
    """Vouch for all files of an attempt's folder; the text of the receipt. ValueError, TypeError: no JSON result."""
    if (part / RECEIPT).exists():
        raise ValueError(f"{RECEIPT} is the name of the receipt; call that file something else")
    files = sorted(file for file in part.rglob("*") if file.is_file())
    sealed = {file.relative_to(part).as_posix(): [file.stat().st_size, _checksum(file)] for file in files}
    receipt = {"key": key, "files": sealed, "result": result}
    text = json.dumps(receipt | {"checksum": _seal(receipt)}, ensure_ascii=False, allow_nan=False) + "\n"
    (part / RECEIPT).write_text(text, encoding="utf-8")
    return text


@dataclasses.dataclass(frozen=True)
class Found:
    """What a folder of a task holds: its `result` when it is whole and of this task, otherwise what is `wrong`."""

    result: Any = None
    wrong: str | None = None


def read_receipt(folder: Path, key: str) -> Found | None:
    """What was found of a task; None when there is nothing. Reads every file that the receipt names."""
    if not folder.exists():
        return None
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        seal = receipt.pop("checksum")
        files, result = dict(receipt["files"]), receipt["result"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Found(wrong=f"{RECEIPT}: missing or not readable")
    if seal != _seal(receipt):
        return Found(wrong=f"{RECEIPT}: contents changed")
    if receipt["key"] != key:
        return Found(wrong="made by another version, from other inputs or with other settings")
    for name, (size, checksum) in files.items():
        file = folder / name
        if not file.is_file():
            return Found(wrong=f"{name}: missing")
        if file.stat().st_size != size or _checksum(file) != checksum:
            return Found(wrong=f"{name}: contents changed")
    return Found(result=result)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field for field in dataclasses.fields(value) if field.metadata.get("in_key", True))
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def _seal(receipt: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(_canonical(receipt))


def _checksum(file: Path) -> str:
    checksum = xxhash.xxh3_128()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()

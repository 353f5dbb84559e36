"""Tasks of the engine tests: functions that worker processes can import."""

import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.engines.receipts import NOT_IN_KEY
from data_prep.errors import DataError


@dataclass(frozen=True)
class Shard:
    name: str
    number: int
    log: Path | None = field(default=None, metadata=NOT_IN_KEY)
    seconds: float = field(default=0.0, metadata=NOT_IN_KEY)
    how: str = field(default="", metadata=NOT_IN_KEY)
    """What this one does beside its work; at most once per file of its log folder."""


def shards(count: int, log: Path | None = None, **given: Any) -> list[Shard]:
    return [Shard(f"shard-{number:03d}", number, log, **given) for number in range(count)]


def started(log: Path) -> list[str]:
    """Names of the tasks whose work has begun, once per beginning."""
    return sorted(file.name.split(".")[0] for file in log.iterdir()) if log.exists() else []


def write(shard: Shard, out: Path) -> dict[str, Any]:
    """Two files that follow from the number alone."""
    times = 1
    if shard.log:
        shard.log.mkdir(parents=True, exist_ok=True)
        ray = sys.modules.get("ray")
        node = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else "here"
        (shard.log / f"{shard.name}.{time.time_ns()}.{node}").touch()
        times = started(shard.log).count(shard.name)
    content = hashlib.sha512(str(shard.number).encode()).digest() * 100
    (out / "rows.bin").write_bytes(content)
    time.sleep(shard.seconds)
    _misbehave(shard, times)
    (out / "more").mkdir()
    (out / "more" / "text.txt").write_text(f"ä {shard.number}\n", encoding="utf-8")
    return {"number": shard.number, "pair": (shard.number, None)}


def _misbehave(shard: Shard, times: int) -> None:
    if shard.how == "refuse":
        raise DataError(f"shard {shard.number}: refused; take another")
    if shard.how == "break":
        raise ValueError(f"no\nluck with {shard.number}")
    if shard.how == "die" or (shard.how == "die once" and times == 1):
        os.kill(os.getpid(), signal.SIGKILL)


def surroundings(shard: Shard, out: Path) -> dict[str, Any]:
    """What a worker finds."""
    import pyarrow

    print("a worker must not be heard", flush=True)
    os.system("echo nor its children; echo or these >&2")
    return {
        "pid": os.getpid(),
        "arrow": pyarrow.cpu_count(),
        "threads": os.environ.get("RAYON_NUM_THREADS"),
        "key": "PROVETUNE_PSEUDONYM_KEY" in os.environ,
    }


def burn(shard: Shard, out: Path) -> int:
    """Work for one processor."""
    value = b"seed"
    for _ in range(shard.number):
        value = hashlib.sha256(value).digest()
    (out / "value").write_bytes(value)
    return len(value)


def leak(shard: Shard, out: Path) -> str:
    """Try to give a secret away, in the way that `how` says."""
    key = os.environ["PROVETUNE_PSEUDONYM_KEY"]
    if shard.how == "return":
        return key
    if shard.how == "raise":
        raise KeyError(key)
    if shard.how == "refuse":
        raise DataError(f"the key {key} is bad")
    (out / "length").write_text(str(len(key)), encoding="ascii")
    return "kept"


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def parts(folder: Path) -> list[Path]:
    """What is left of unfinished attempts."""
    return list(folder.glob(".*.part"))

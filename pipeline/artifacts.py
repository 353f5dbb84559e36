"""Artifacts on disk: atomic writes, content hashes, `done.json`, locks.

    outputs/artifacts/<kind>/<fingerprint>/   stage.yaml … metrics.json done.json
    outputs/artifacts/<kind>/<fingerprint>.lock

`done.json` is written last, by rename, with the hash of every file: without it an artifact is unfinished, and with a
file that does not match it the artifact is damaged and made again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import LockHeld

State = Literal["cached", "resume", "new", "damaged"]

NOT_SEALED = ("checkpoints", "logs", "done.json", "failed.json")
"""What `done.json` does not vouch for: logs, and the checkpoints that only an unfinished artifact needs."""


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a temporary file beside it, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashMemory:
    """Content hashes remembered by path, size and modification time, so that a plan never reads 140 GB again."""

    def __init__(self, store: Path):
        self.store = store
        self.known: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            known = read_json(store)
            self.known = known if isinstance(known, dict) else {}
        self.changed = False

    def sha256(self, path: Path) -> str:
        """Hex sha256 of the file, read only when its size or time is new."""
        stat = path.stat()
        key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        remembered = self.known.get(key)
        if remembered and remembered[:2] == stamp:
            return remembered[2]
        digest = file_sha256(path)
        self.known[key] = [*stamp, digest]
        self.changed = True
        return digest

    def save(self) -> None:
        """Keep what was learnt. Another run may have saved meanwhile: its entries are kept too.

        Where nothing can be written (a plan of read-only outputs, a full disk) the files are read again next time.
        """
        if not self.changed:
            return
        with contextlib.suppress(OSError, ValueError, TypeError):
            self.known = read_json(self.store) | self.known
        with contextlib.suppress(OSError):
            write_text(self.store, json.dumps(self.known))
            self.changed = False


@dataclass(frozen=True)
class Artifact:
    """The folder of one node's result."""

    folder: Path
    links: Mapping[str, str] = field(default_factory=dict)
    """Links in it → where they must point: a model folder is used where it lies, and may have been moved since."""

    @property
    def done_file(self) -> Path:
        """Its presence, with matching hashes, says that the artifact is whole."""
        return self.folder / "done.json"

    def state(self, hashes: HashMemory) -> State:
        """Whether the artifact can be used, continued or must be made (`damaged`: made again)."""
        if self.done_file.exists():
            return "damaged" if self.damage(hashes) else "cached"
        return "resume" if any((self.folder / "checkpoints").glob("*")) else "new"

    def damage(self, hashes: HashMemory) -> str | None:
        """The first file that is not as `done.json` says, with the reason; None when all is well."""
        try:
            done = read_json(self.done_file)
            sealed, _ = dict(done["files"]), dict(done["metrics"])
        except (OSError, ValueError, KeyError, TypeError):
            return "done.json: not readable"
        for name, digest in sealed.items():
            path = self.folder / name
            if not path.is_file():
                return f"{name}: missing"
            if hashes.sha256(path) != digest:
                return f"{name}: contents changed"
        for name, target in self.links.items():
            if (self.folder / name).resolve() != Path(target):
                return f"{name}: points at another place than {target}"
        return None

    def leftovers(self) -> bool:
        """Whether an earlier try left files that cannot be continued from."""
        return any(path.name not in ("checkpoints", "logs") for path in self.folder.glob("*"))

    def files(self) -> Iterator[Path]:
        """Every file that `done.json` vouches for, in a stable order. Links point at things hashed elsewhere."""
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            linked = any((self.folder / parent).is_symlink() for parent in [inside, *inside.parents])
            if path.is_file() and not linked and inside.parts[0] not in NOT_SEALED:
                yield path

    def seal(self, record: dict[str, Any], hashes: HashMemory) -> dict[str, Any]:
        """Write `done.json` with the hash of every file, then drop the checkpoints that resumed this artifact."""
        files = {str(path.relative_to(self.folder)): hashes.sha256(path) for path in self.files()}
        done = {**record, "finished": datetime.now(UTC).isoformat(timespec="seconds"), "files": files}
        (self.folder / "failed.json").unlink(missing_ok=True)
        write_json(self.done_file, done)
        hashes.save()
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return done

    def clear(self) -> None:
        """Remove everything, `done.json` first, so that a kill on the way leaves an unfinished artifact."""
        self.done_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, wait_seconds: float, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the artifact for this process; wait for another holder, and tell who it is.

        The lock is the operating system's (`flock`): a killed holder releases it at once.
        """
        path = self.folder.with_name(self.folder.name + ".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            _acquire(file, path, wait_seconds, tell)
            file.seek(0)
            file.truncate()
            started = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}")
            file.flush()
            yield


def _acquire(file: Any, path: Path, wait_seconds: float, tell: Callable[[str], None]) -> None:
    """Take the lock on an open file, polling: `flock` itself has no time-out."""
    deadline, told = time.monotonic() + wait_seconds, False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8") or "another process"
            if time.monotonic() >= deadline:
                raise LockHeld(
                    f"{path.parent.name}/{path.stem}: being written by {holder}; "
                    f"waited {wait_seconds:.0f} s; start again later, or raise lock_wait"
                ) from None
            if not told:
                tell(f"waiting for {path.parent.name}/{path.stem}: being written by {holder}")
                told = True
            time.sleep(0.2)

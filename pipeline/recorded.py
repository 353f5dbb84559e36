"""A run as it was recorded on disk: its folder, manifest, seal and artifacts; also inside a bundle for a reviewer.

    <root>/runs/<run_id>/          manifest.json report.json report.html report.md seal.json
    <root>/artifacts/<kind>/<fingerprint>/

`seal.json` is written when the run ends: the sha256 of each file of the run's folder and of each artifact's
`done.json`, which in turn vouches for every file of the artifact.
"""

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.artifacts import file_sha256, read_json, write_json
from pipeline.errors import ConfigError, ProvetuneError, printable

SEAL, MANIFEST, BUNDLE = "seal.json", "manifest.json", "bundle.json"
REPORTS = ("report.json", "report.html", "report.md")
_MAX_BUNDLE = 64 * 2**30
"""Bytes that a bundle may unpack to: a hostile one must not fill the disk."""


@dataclass(frozen=True)
class RecordedNode:
    """One piece of work of a recorded run."""

    name: str
    kind: str
    fingerprint: str
    folder: Path

    @property
    def place(self) -> str:
        """Where its artifact lies below the root: `artifacts/<kind>/<fingerprint>`."""
        return f"artifacts/{self.kind}/{self.fingerprint}"


@dataclass(frozen=True)
class RecordedRun:
    """A run's folder with what its manifest says."""

    folder: Path
    root: Path
    manifest: Mapping[str, Any]
    nodes: list[RecordedNode]
    left_out: Mapping[str, Any]
    """In a bundle: `artifacts/…/file` → sha256 of what was not packed."""

    @property
    def name(self) -> str:
        """The run's id."""
        return self.folder.name

    def report(self) -> dict[str, Any]:
        """Its report.json, checked. Raises ReportError."""
        from pipeline.report.load import load_report

        return load_report(self.folder / "report.json")

    def of_kind(self, kind: str) -> list[RecordedNode]:
        """The nodes of a kind, in the run's order."""
        return [node for node in self.nodes if node.kind == kind]


def read_run(folder: Path) -> RecordedRun:
    """The run in a folder. Raises ConfigError where the manifest is missing or damaged."""
    folder = folder.resolve()
    root, file = folder.parent.parent, folder / MANIFEST
    shown = printable(str(file))
    try:
        manifest = read_json(file)
        told = [(node["name"], node["kind"], node["fingerprint"]) for node in manifest["nodes"]]
        nodes = [RecordedNode(*each, root / "artifacts" / each[1] / each[2]) for each in told]
        assert manifest["config"]["model"] and manifest["environment"] is not None
    except FileNotFoundError:
        raise ConfigError(f"{shown}: no such file; give the folder of a run, as in outputs/runs") from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ConfigError(f"{shown}: damaged ({type(error).__name__}: {error}); this run cannot be checked") from None
    bundle = root / BUNDLE
    return RecordedRun(folder, root, manifest, nodes, read_json(bundle)["left_out"] if bundle.exists() else {})


@contextlib.contextmanager
def opened(run: str) -> Iterator[RecordedRun]:
    """The run that a user names: a folder, a run id, `latest`, or a bundle, which is unpacked for the while."""
    from pipeline.report.load import ReportError, find_run

    path = Path(run)
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="provetune-") as folder:
            yield read_run(_unpacked(path, Path(folder)))
        return
    try:
        found = find_run(run)
    except ReportError as error:
        raise ConfigError(str(error)) from None
    yield read_run(found)


def _unpacked(bundle: Path, into: Path) -> Path:
    """Unpack a bundle and return the run's folder. Raises ConfigError for anything but a bundle of ours."""
    shown = printable(str(bundle))
    try:
        with zipfile.ZipFile(bundle) as archive:
            names = archive.namelist()
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BUNDLE:
                raise ConfigError(f"{shown}: unpacks to more than {_MAX_BUNDLE >> 30} GiB; not unpacked")
            if BUNDLE not in names or any(_leads_out(name) for name in names):
                raise ConfigError(f"{shown}: no bundle of python -m pipeline.export; make one from the run's folder")
            archive.extractall(into)
        return into / "runs" / read_json(into / BUNDLE)["run"]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"{shown}: damaged ({error}); ask for the bundle again") from None
    except RuntimeError as error:  # zipfile asks for a password
        raise ConfigError(f"{shown}: cannot be opened ({error}); ask for the bundle again") from None


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def seal_run(folder: Path) -> None:
    """Write `seal.json` of a run that ended: what its folder and its artifacts were at that moment."""
    run = read_run(folder)
    files = [path for path in sorted(run.folder.iterdir()) if path.is_file() and path.name not in (SEAL, ".lock")]
    done = {node.place: node.folder / "done.json" for node in run.nodes}
    seal = {
        "run": {path.name: file_sha256(path) for path in files},
        "artifacts": {place: file_sha256(path) for place, path in done.items() if path.exists()},
    }
    write_json(run.folder / SEAL, seal)


def told(error: ProvetuneError) -> str:
    """An error as a command prints it."""
    return "\n".join(f"error: {printable(line)}" for line in str(error).splitlines())

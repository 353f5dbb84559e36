"""What this machine can do, what is missing, what clashes: `python -m pipeline.doctor [FOLDER]`.

Each check answers with a state, what was found and what to do. The exit code is 1 when something stands in the way of a
run; what is only not there (no GPU, no Slurm, no Ray) is no fault. FOLDER is where outputs will lie (default: outputs).
"""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.console import table
from pipeline.doctor_devices import Finding, check_collectives, check_gpus, check_ray, check_slurm
from pipeline.errors import printable

COLOURS = {"ok": "green", "absent": "dim", "warning": "yellow", "fault": "red"}
LEAST_DISK, USUAL_DISK = 2e9, 20e9
"""Bytes free: below the first nothing can be trained, below the second a large model cannot."""
OURS = ("pipeline", "conf", "data_prep", "eval")
SHARED_MODULES = ("fasttext", "conf", "eval", "pipeline", "evaluate", "ray")
"""Names that more than one distribution is known to install."""


def folder_of(outputs: Path) -> Path:
    """The nearest folder that exists: outputs may be made only later."""
    return next(path for path in [outputs.absolute(), *outputs.absolute().parents] if path.exists())


def check_disk(outputs: Path) -> Finding:
    """Room and the right to write."""
    place = folder_of(outputs)
    if not place.is_dir() or not _writable(place):
        return Finding("disk", "fault", f"{place} cannot be written", "set outputs=FOLDER to one that can")
    free = shutil.disk_usage(place).free
    told = f"{free / 1e9:.0f} GB free at {place}"
    if free < LEAST_DISK:
        return Finding("disk", "fault", told, "free some, or set outputs=FOLDER on another disk")
    if free < USUAL_DISK:
        return Finding("disk", "warning", told, "enough for small models; checkpoints of 8 B parameters need 100 GB")
    return Finding("disk", "ok", told)


def _writable(place: Path) -> bool:
    probe = place / f".provetune-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError:
        return False
    return True


def check_renames(outputs: Path) -> Finding:
    """`done.json` and every report rely on a rename that replaces a file in one step."""
    place = folder_of(outputs)
    old, new = (place / f".provetune-{uuid.uuid4().hex}" for _ in range(2))
    try:
        old.write_text("old", encoding="utf-8")
        new.write_text("new", encoding="utf-8")
        new.replace(old)
        whole = old.read_text(encoding="utf-8") == "new" and not new.exists()
    except OSError as error:
        return Finding("renames", "fault", f"{place}: {error.strerror}", "set outputs=FOLDER on another file system")
    finally:
        for path in (old, new):
            with contextlib.suppress(OSError):
                path.unlink()
    if not whole:
        return Finding("renames", "fault", f"{place}: a rename left the old file", "set outputs=FOLDER elsewhere")
    return Finding("renames", "ok", f"replace a file in one step ({_file_system(place)})")


def check_locks(outputs: Path) -> Finding:
    """Two processes must not hold one lock: sweep jobs share artifacts by it."""
    place = folder_of(outputs)
    file = place / f".provetune-{uuid.uuid4().hex}.lock"
    advice = "mount it with locks (NFS: without nolock; Lustre: with flock), or set outputs=FOLDER elsewhere"
    try:
        with file.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            other = _held_by_another(file)
    except OSError as error:
        return Finding("locks", "fault", f"{place}: {error.strerror}", advice)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
    if not other:
        return Finding("locks", "fault", f"{place}: two processes got the same lock", advice)
    return Finding("locks", "ok", f"exclusive among processes ({_file_system(place)})")


def _held_by_another(file: Path) -> bool:
    """Whether another process is refused the lock."""
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False).returncode != 0


def _file_system(place: Path) -> str:
    """Type of the file system, by the longest mount point above a folder."""
    best = ("", "unknown")
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            point, kind = line.split()[1:3]
            if place.is_relative_to(point) and len(point) > len(best[0]):
                best = (point, kind)
    return best[1]


def check_modules(_: Path) -> Finding:
    """Two installed distributions that own one module: which one is imported is chance."""
    owners = {
        name: sorted(set(distributions))
        for name, distributions in importlib.metadata.packages_distributions().items()
        if name in SHARED_MODULES and len(set(distributions)) > 1
    }
    if owners:
        told = "; ".join(f"{name}: {', '.join(several)}" for name, several in owners.items())
        return Finding("modules", "fault", f"owned twice: {told}", "pip uninstall all of them, then reinstall one")
    return Finding("modules", "ok", "no module has two owners")


def check_working_folder(_: Path) -> Finding:
    """A package or file of ours by name in the working folder is imported in place of ours."""
    root = Path(__file__).parents[1].resolve()
    here = Path.cwd().resolve()
    foreign = [
        entry.name
        for name in OURS
        for entry in (here / f"{name}.py", here / name)
        if here != root and (entry.is_file() or (entry / "__init__.py").is_file())
    ]
    if foreign:
        advice = "start in another folder, or rename them; the provetune command is safe"
        return Finding("working folder", "warning", f"{', '.join(foreign)} in {here} may hide ours", advice)
    return Finding("working folder", "ok", "nothing in it hides a package of ours")


CHECKS: list[Callable[[Path], Finding]] = [
    check_working_folder,
    check_modules,
    check_disk,
    check_renames,
    check_locks,
    check_gpus,
    check_collectives,
    check_slurm,
    check_ray,
]
"""In the order in which they are shown."""


def examine(outputs: Path, checks: Sequence[Callable[[Path], Finding]] = tuple(CHECKS)) -> list[Finding]:
    """Every check's finding; one that breaks is a fault itself."""
    findings = []
    for check in checks:
        try:
            findings.append(check(outputs))
        except Exception as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            findings.append(Finding(name, "fault", f"the check broke: {type(error).__name__}: {error}", "report it"))
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the findings; 1 when one of them is a fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments) or len(arguments) > 1:
        print("usage: python -m pipeline.doctor [FOLDER]   FOLDER: where outputs will lie (default: outputs)")
        return 0 if len(arguments) == 1 else 2
    findings = examine(Path(arguments[0] if arguments else "outputs").expanduser())
    console = Console(highlight=False, emoji=False)
    shown = table("doctor", ["check", "state", "found", "what to do"], [])
    for one in findings:
        words = [escape(printable(word)) for word in (one.name, one.found, one.advice)]
        shown.add_row(words[0], f"[{COLOURS[one.state]}]{one.state}[/]", *words[1:])
    console.print(shown)
    faults = sum(one.state == "fault" for one in findings)
    console.print(
        f"{faults} of {len(findings)} checks found a fault" if faults else "nothing stands in the way of a run"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

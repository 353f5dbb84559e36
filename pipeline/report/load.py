"""Finds and reads a run's `report.json`; every refusal is one line."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.report.safe_text import one_line, visible, visible_tree
from pipeline.report.schema import SCHEMA_VERSION, Report


class ReportError(Exception):
    """The report cannot be made: one line that names the file, what is wrong and the next step."""


def find_run(run: str, root: Path = Path("outputs/runs")) -> Path:
    """The folder of a run: a path, or a run id (or `latest`) below `root`."""
    for folder in (Path(run), root / run):
        if folder.is_dir():
            return folder
    hint = (
        f"give a run folder, or one of the runs in {root}" if root.is_dir() else "give a folder that holds report.json"
    )
    raise ReportError(f"{visible(run)}: no such run; {hint}")


def load_report(path: Path) -> dict[str, Any]:
    """Read and check `report.json` (a file, or the folder that holds it).

    Raises ReportError when the file is missing, broken, from a newer version, or no report at all.
    """
    file = path / "report.json" if path.is_dir() else path
    name = visible(str(file))
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        runs = file.parent / "runs"
        inside = f"; {visible(str(runs))} holds runs: give one, or all of it" if runs.is_dir() else ""
        raise ReportError(f"{name}: no such file; a run writes it when it ends, also when it fails{inside}") from None
    except OSError as error:
        raise ReportError(f"{name}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{name}: not valid JSON ({one_line(str(error))}); run the pipeline again to write it anew"
        ) from None
    parse(content, name)
    return content


def parse(content: Any, name: str = "report.json") -> Report:
    """Check a report's version and types; its strings come back safe to show."""
    if not isinstance(content, dict) or "schema_version" not in content or "run" not in content:
        raise ReportError(f"{name}: no report of a Provetune run (needs the keys schema_version and run)")
    version = content["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ReportError(
            f"{name}: schema_version is {one_line(repr(version))}; a whole number from 1 to {SCHEMA_VERSION} is known"
        )
    if version > SCHEMA_VERSION:
        raise ReportError(
            f"{name}: schema_version {version} is newer than this Provetune reads ({SCHEMA_VERSION}); "
            "upgrade with pip install -U provetune"
        )
    try:
        return Report.model_validate(visible_tree(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(
            f"{name}: {one_line(where)}: {first['msg']}, not {one_line(repr(first['input']))[:80]}"
        ) from None

"""The report of a run that was killed, or still goes on: it has a manifest and artifacts, but no report.json yet."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json
from pipeline.errors import ProvetuneError
from pipeline.progress import EVENTS
from pipeline.recorded import RecordedNode, RecordedRun, read_run
from pipeline.report.load import ReportError
from pipeline.report.schema import SCHEMA_VERSION


def interrupted_report(folder: Path) -> dict[str, Any]:
    """What the manifest and the finished artifacts tell; it says at which node the run stopped.

    Raises ReportError where there is no manifest either.
    """
    try:
        run = read_run(folder)
    except ProvetuneError as error:
        raise ReportError(str(error)) from None
    made = {node.name: _done(node) for node in run.nodes}
    stopped = next((node for node in run.nodes if made[node.name] is None), None)
    manifest = run.manifest
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "id": run.name,
            "status": "failed",
            "failed": _failure(stopped, run),
            "command": manifest.get("command"),
            "experiment": manifest["config"].get("experiment"),
            "started": manifest.get("started"),
            "seconds": None,
            "provetune": manifest.get("provetune"),
        },
        "config": manifest["config"],
        "environment": manifest["environment"],
        "model": {"name": None, "source": manifest["config"]["model"].get("source")},
        "stages": [_stage(node, done) for node in run.nodes if (done := made[node.name]) is not None],
        "warnings": ["This page was made from the manifest: the run wrote no report.json."],
    }


def _done(node: RecordedNode) -> Mapping[str, Any] | None:
    try:
        return dict(read_json(node.folder / "done.json"))
    except (OSError, ValueError, TypeError):
        return None


def _failure(stopped: RecordedNode | None, run: RecordedRun) -> dict[str, Any]:
    """Where and why, as far as anybody knows: a node tells its error itself when it can."""
    if stopped is None:
        return {"stage": None, "message": "The run was stopped after its last stage, before it wrote its report."}
    why = "The run was stopped here from outside (killed, out of memory, power), or it is still running."
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        lines = (stopped.folder / "logs" / EVENTS).read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1])
        why = str(last["message"]) if last["event"] == "failed" else why
    logs = stopped.folder / "logs"
    return {"stage": stopped.name, "message": why, "log": f"{stopped.place}/logs" if logs.is_dir() else None}


def _stage(node: RecordedNode, done: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": node.kind,
        "fingerprint": node.fingerprint,
        "outcome": done.get("outcome"),
        "seconds": done.get("seconds"),
        "peak_memory_bytes": done.get("peak_memory_bytes"),
        "metrics": done.get("metrics") or {},
        "artifact": node.place,
    }

"""`python -m pipeline.verify RUN`: is everything as the run left it, and do its predictions give its numbers?

Needs no model: the hash of every file is compared with the artifact's `done.json`, each `done.json` and report with the
run's `seal.json`, and every metric is computed again from the stored predictions. RUN may be a bundle.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts import Artifact, file_sha256, read_json
from pipeline.errors import ConfigError, ProvetuneError
from pipeline.recorded import SEAL, RecordedNode, RecordedRun, opened, told

_RELATIVE = 1e-9
"""How far a recomputed number may be from the stored one: another numpy may add in another order."""


class Check(NamedTuple):
    """One thing that was looked at; `problem` is None when all is well."""

    what: str
    looked_at: str
    problem: str | None


def main(arguments: list[str] | None = None) -> int:
    """Verify one run: 0 and a table when all is well, 1 when something differs, 2 when there is no such run."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.verify",
        description="Hash every artifact of a run, and compute its metrics again from the stored predictions.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, a run id in outputs/runs, latest, or a bundle")
    try:
        with opened(parser.parse_args(arguments).run) as run:
            checks = list(verify(run))
    except ProvetuneError as error:
        print(told(error), file=sys.stderr)
        return error.exit_code
    _show(run.name, checks)
    return 1 if any(check.problem for check in checks) else 0


def verify(run: RecordedRun) -> Iterator[Check]:
    """Every check of a run: its folder, its artifacts, its metrics."""
    seal = _read_seal(run)
    yield from _check_folder(run, seal)
    sources = run.manifest.get("sources", {})
    for node in run.nodes:
        yield _check_artifact(node, run, seal, sources.get("model", {}).get("files"))
    for node in run.of_kind("evaluate.compare"):
        if (node.folder / "done.json").is_file():
            yield _check_metrics(node, run)
    yield _check_report(run)


def problems(run: RecordedRun) -> list[str]:
    """What `verify` finds wrong, one line each."""
    return [f"{check.what}: {check.problem}" for check in verify(run) if check.problem]


def _read_seal(run: RecordedRun) -> Mapping[str, Any] | None:
    """What the run sealed; None for a run of a version without seals."""
    try:
        seal = read_json(run.folder / SEAL)
        return {"run": dict(seal["run"]), "artifacts": dict(seal["artifacts"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {"run": {}, "artifacts": {}}


def _check_folder(run: RecordedRun, seal: Mapping[str, Any] | None) -> Iterator[Check]:
    """The files of the run's own folder; the pages may also be rendered anew."""
    if seal is None:
        yield Check(SEAL, "", "missing: the run was stopped before its end, or the file was removed")
        return
    if not seal["run"]:
        yield Check(SEAL, "", "damaged")
    for name, digest in seal["run"].items():
        file = run.folder / name
        if not file.is_file():
            yield Check(name, "sha256", "missing")
        elif file_sha256(file) != digest and not _is_rendered(run, name):
            yield Check(name, "sha256", "contents changed")
        else:
            yield Check(name, "sha256", None)


def _is_rendered(run: RecordedRun, name: str) -> bool:
    """Whether a page is what report.json gives here: pages may be made again, by another version too."""
    from pipeline.report.load import ReportError, parse

    if name not in ("report.html", "report.md"):
        return False
    from pipeline.report.render import render_html, render_markdown

    try:
        report = parse(run.report())
    except ReportError:
        return False
    page = render_html(report) if name == "report.html" else render_markdown(report)
    return (run.folder / name).read_bytes() == page.encode()


def _check_artifact(node: RecordedNode, run: RecordedRun, seal: Mapping[str, Any] | None, model_files: Any) -> Check:
    """Every file of one artifact against its `done.json`, and that against the run's seal."""
    done_file = node.folder / "done.json"
    if not done_file.is_file():
        reached = seal is None or node.place in seal["artifacts"]
        return Check(node.name, "done.json" if reached else "never made", "done.json: missing" if reached else None)
    try:
        files = dict(read_json(done_file)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return Check(node.name, "", "done.json: not readable")
    problem = next(_damage(node, run, files), None)
    if problem is None and seal is not None and seal["artifacts"].get(node.place) != file_sha256(done_file):
        problem = "done.json: not the one of this run; the artifact was made again or changed"
    if problem is None and (node.folder / "model").is_symlink():
        problem = _linked_damage(node.folder / "model", model_files)
    absent = sum(f"{node.place}/{name}" in run.left_out for name in files)
    return Check(node.name, f"{len(files) - absent} files" + (f", {absent} not in the bundle" * bool(absent)), problem)


def _damage(node: RecordedNode, run: RecordedRun, files: Mapping[str, str]) -> Iterator[str]:
    for name, digest in files.items():
        path, place = node.folder / name, f"{node.place}/{name}"
        if not path.is_file():
            if run.left_out.get(place) != digest:
                yield f"{name}: missing"
        elif file_sha256(path) != digest:
            yield f"{name}: contents changed"
    for path in Artifact(node.folder).files():
        if str(path.relative_to(node.folder)) not in files:
            yield f"{path.relative_to(node.folder)}: was not there when the artifact was sealed"


def _linked_damage(folder: Path, files: Any) -> str | None:
    """A base model that is used where it lies: its files against the manifest."""
    for name, digest in files or []:
        if not (folder / name).is_file():
            return f"model/{name}: missing where the base model lay"
        if file_sha256(folder / name) != digest:
            return f"model/{name}: contents changed where the base model lies"
    return None


def _check_metrics(node: RecordedNode, run: RecordedRun) -> Check:
    """Compute a comparison again from the predictions that it was made from."""
    try:
        stored = read_json(node.folder / "comparison.json")
        again = recomputed(node, run)
    except FileNotFoundError as error:
        return Check(node.name, "metrics", f"{Path(str(error.filename)).name}: missing")
    except Exception as error:  # whatever tampered files make the statistics say
        return Check(node.name, "metrics", f"cannot be computed again: {error}")
    different = list(differences(stored, again))
    count = sum(1 for part in ("base", "tuned", "comparison") for _ in _numbers(again[part]))
    shown = "; ".join(different[:3]) + (f"; {len(different) - 3} more" * (len(different) > 3))
    return Check(node.name, f"{count} numbers recomputed", shown or None)


def recomputed(node: RecordedNode, run: RecordedRun) -> dict[str, Any]:
    """`comparison.json` made anew by the stage's own code, from stored predictions only."""
    import importlib

    import yaml

    from data_prep.progress import silent
    from pipeline.stages import RUNNERS

    stage = yaml.safe_load((node.folder / "stage.yaml").read_text(encoding="utf-8"))
    folders = {each.fingerprint: each.folder for each in run.nodes}
    labels = read_json(node.folder / "inputs.json")
    missing = sorted(set(labels.values()) - set(folders))
    if missing:
        raise ConfigError(f"inputs.json names {missing[0]}, which is no artifact of this run")
    with tempfile.TemporaryDirectory(prefix="provetune-") as out:
        work = importlib.import_module(RUNNERS[node.kind])
        work.run(stage["config"], {label: folders[each] for label, each in labels.items()}, Path(out), silent)
        return read_json(Path(out) / "comparison.json")


def differences(stored: Any, again: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ; numbers by more than a relative 1e-9."""
    if isinstance(stored, Mapping) and isinstance(again, Mapping):
        for key in dict.fromkeys([*stored, *again]):
            yield from differences(stored.get(key), again.get(key), f"{where} {key}".strip())
    elif isinstance(stored, Sequence) and isinstance(again, Sequence) and not isinstance(stored, str):
        if len(stored) != len(again):
            yield f"{where}: {len(stored)} stored, {len(again)} recomputed"
        for index, (one, other) in enumerate(zip(stored, again, strict=False)):
            yield from differences(one, other, f"{where} {index}")
    elif not _same(stored, again):
        yield f"{where}: {_short(stored)} stored, {_short(again)} recomputed"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=1e-12)
    return one == other


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _numbers(tree: Any) -> Iterator[float]:
    for value in tree.values() if isinstance(tree, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield value


def _check_report(run: RecordedRun) -> Check:
    """Whether report.json shows the numbers of the artifacts, and the configuration of the manifest."""
    from pipeline.report.load import ReportError

    try:
        found = list(_report_differences(run, run.report()))
    except ReportError as error:
        return Check("report.json", "numbers", str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Check("report.json", "numbers", f"cannot be compared with the artifacts: {error}")
    return Check("report.json", "numbers of the artifacts", found[0] if found else None)


def _report_differences(run: RecordedRun, report: Mapping[str, Any]) -> Iterator[str]:
    from pipeline.report.verdict import headline

    shown = report.get("evaluation") or {}
    comparisons: dict[str, Any] = {}
    for node in run.of_kind("evaluate.compare"):
        file = node.folder / "comparison.json"
        if file.exists():
            comparisons[node.name.rsplit("/", 1)[-1]] = read_json(file)["comparison"]
    pairs = [
        ("comparisons", {name: (shown.get("comparisons") or {}).get(name) for name in comparisons}, comparisons),
        ("config", report.get("config"), run.manifest["config"]),
    ]
    if report.get("verdict") and comparisons:
        verdict = report["verdict"]
        pairs.append(("verdict", verdict, headline(shown["comparisons"], verdict.get("confidence", 0.95))))
    for name, one, other in pairs:
        yield from differences(one, other, name)


def _show(name: str, checks: list[Check]) -> None:
    """The table of everything that was looked at, and the answer in one line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "looked at", "result", box=None, pad_edge=False, header_style="dim")
    for check in checks:
        mark, style = ("✗", "bold red") if check.problem else ("✓", "green")
        table.add_row(Text(mark, style), Text(check.what), Text(check.looked_at), Text(check.problem or "as recorded"))
    console = Console(highlight=False, emoji=False)
    console.print(table)
    wrong = sum(check.problem is not None for check in checks)
    console.print()
    said = f"{wrong} of {len(checks)} checks failed" if wrong else f"all {len(checks)} checks passed"
    console.print(Text(f"{name}: {said}", "bold red" if wrong else "bold green"))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m pipeline.reproduce RUN`: run it again from its manifest in an empty artifact root, compare the numbers.

What differs between the environments is told first. On the same machine with the same versions a float32 CPU run has to
be bitwise equal; anywhere else, numbers have to agree within the tolerances of `pipeline/reproduction.py`.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, ProvetuneError, StageFailed, printable
from pipeline.recorded import RecordedRun, opened, read_run, told
from pipeline.reproduction import Difference, Fact, compared, environment_facts, is_same


def main(arguments: list[str] | None = None) -> int:
    """Reproduce one run: 0 when every number agrees, 1 and the table of differences otherwise; 2 without a run."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.reproduce",
        description="Run a recorded run again in an empty artifact root, and compare every metric.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, a run id in outputs/runs, or latest")
    parser.add_argument("--into", metavar="FOLDER", help="an empty folder for the new run, which is then kept")
    parser.add_argument("--check", action="store_true", help="only list what differs in the environment")
    asked = parser.parse_args(arguments)
    try:
        with opened(asked.run) as run:
            return _check(run) if asked.check else _reproduce(run, asked.into)
    except ProvetuneError as error:
        print(told(error), file=sys.stderr)
        return error.exit_code


def _check(run: RecordedRun) -> int:
    """The environment alone: 0 when nothing that counts differs."""
    facts = _facts(run)
    _show_facts(facts)
    return 0 if is_same(facts) else 1


def _facts(run: RecordedRun) -> list[Fact]:
    from pipeline.provenance import environment

    return environment_facts(run.manifest["environment"], environment(run.manifest["config"].get("seed", 0)))


def _reproduce(run: RecordedRun, into: str | None) -> int:
    """Run again, compare, tell; the new run's folder stays when it was asked for or when something differs."""
    from pipeline.report.load import ReportError

    try:
        before = run.report()
    except ReportError as error:
        raise ConfigError(str(error)) from None
    if (before.get("run") or {}).get("failed"):
        raise ConfigError(f"{run.name}: stopped before its end, so there is nothing to compare; start it again instead")
    threads = run.manifest["environment"].get("threads")
    if threads:  # the order of a sum depends on it; workers inherit the variable
        os.environ["OMP_NUM_THREADS"] = str(threads)
    facts = _facts(run)
    _show_facts(facts)
    place = _empty(into)
    try:
        again = _run_again(run, place)
    except BaseException as error:
        if into is None and not isinstance(error, StageFailed):  # whose logs lie there, and are named
            shutil.rmtree(place, ignore_errors=True)
        raise
    found = list(compared(run, again, is_exact=is_same(facts) and _is_float32_on_cpu(run)))
    _show(run.name, found)
    wrong = [each for each in found if not each.is_allowed]
    if not wrong and into is None:
        shutil.rmtree(place, ignore_errors=True)
    else:
        print(printable(f"the new run: {again.folder}"))
    return 1 if wrong else 0


def _is_float32_on_cpu(run: RecordedRun) -> bool:
    """Whether nothing but the order of instructions of one processor made the numbers."""
    config, gpus = run.manifest["config"], run.manifest["environment"].get("gpus")
    return (
        config["model"].get("dtype") == "float32"
        and config["launch"].get("kind") in ("single", "cpu_ranks")
        and not gpus
    )


def _empty(into: str | None) -> Path:
    """The root of the new run: never a folder that holds artifacts already."""
    if into is None:
        return Path(tempfile.mkdtemp(prefix="provetune-reproduce-"))
    place = Path(into).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"--into: {printable(into)} is not an empty folder; give one that is empty or does not exist")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _run_again(run: RecordedRun, place: Path) -> RecordedRun:
    """Execute the manifest's configuration with `place` as its outputs."""
    from pipeline.config import RunConfig, validate
    from pipeline.run import run as execute

    config = validate(RunConfig, pinned(run.manifest) | {"outputs": str(place.absolute()), "run_id": run.name})
    execute(config, list(run.manifest.get("overrides", [])))
    return read_run(place / "runs" / run.name)


def pinned(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a manifest, each Hub source at the commit that was used."""
    config = {**manifest["config"], "mode": "run", "push_to_hub": None, "tracking": {}}
    sources = manifest.get("sources", {})
    if sources.get("model", {}).get("hub"):
        config["model"] = {**config["model"], "revision": sources["model"]["revision"]}
    rows = {
        name: {**dataset, "revision": sources["data"][name]["revision"]}
        if sources.get("data", {}).get(name, {}).get("hub")
        else dataset
        for name, dataset in config["data"].items()
    }
    return {**config, "data": rows}


def _show_facts(facts: list[Fact]) -> None:
    """What differs in the environment, or that nothing does."""
    differing = [fact for fact in facts if fact.then != fact.now]
    if not differing:
        print(f"environment: all {len(facts)} facts are as recorded")
        return
    rows = [(fact.name, fact.then, fact.now, "counts" if fact.counts else "noted") for fact in differing]
    _table(("environment", "then", "now", ""), rows)


def _show(name: str, found: list[Difference]) -> None:
    """Every number that differs, and how many there were."""
    differing = [each for each in found if each.then != each.now]
    if differing:
        rows = [
            (each.name, each.then_text, each.now_text, each.allowed_text, "within" if each.is_allowed else "DIFFERS")
            for each in differing[:200]
        ]
        _table(("number", "then", "now", "allowed", ""), rows)
    if len(differing) > 200:
        print(f"… and {len(differing) - 200} more")
    wrong = sum(not each.is_allowed for each in found)
    print(f"{printable(name)}: " + _verdict(len(found), len(differing), wrong))


def _verdict(count: int, differing: int, wrong: int) -> str:
    if wrong:
        return f"not reproduced: {wrong} of {count} numbers and files differ by more than is allowed"
    if differing:
        return f"reproduced: all {count} numbers and files agree within the tolerances, {differing} of them not exactly"
    return f"reproduced: all {count} numbers and files are bitwise equal"


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, pad_edge=False, header_style="dim")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False, emoji=False).print(table)
    print()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m pipeline.report RUN`: a run's report again from its report.json; of several runs, a comparison."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.report.load import ReportError, find_run, load_report, parse
from pipeline.report.safe_text import visible


def main(arguments: list[str] | None = None) -> int:
    """Render one run or compare several, and print verdict and path; 2 with one line on stderr when it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.report",
        description="Make the report of a run from its report.json, or compare several runs.",
    )
    told = "a run folder, a run id in outputs/runs, or latest; several of them, or a folder of runs, are compared"
    parser.add_argument("run", nargs="+", metavar="RUN", help=told)
    parser.add_argument("--best", metavar="METRIC", help="compare by METRIC or TASK:METRIC, such as bits_per_byte")
    parser.add_argument("--out", metavar="FOLDER", help="where the comparison is written")
    asked = parser.parse_args(arguments)
    try:
        print(_make(asked.run, asked.best, asked.out))
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{visible(str(error.filename))}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _make(runs: Sequence[str], best: str | None, out: str | None) -> str:
    folders = [find_run(run) for run in runs]
    is_sweep = len(folders) == 1 and not (folders[0] / "report.json").exists() and any(folders[0].glob("*/report.json"))
    if len(folders) > 1 or is_sweep:
        return _compare(folders, best, out)
    if best or out:
        raise ReportError(f"--{'best' if best else 'out'}: goes with a comparison; give at least two runs")
    content = load_report(folders[0] / "report.json")
    # matplotlib is imported only once it is clear that there is a report to draw
    from pipeline.report.console import verdict_line
    from pipeline.report.render import write_report

    page = write_report(content, folders[0])
    return f"{verdict_line(parse(content))}\n{visible(str(page))}"


def _compare(folders: list[Path], best: str | None, out: str | None) -> str:
    """Compare the runs given, or all runs in the one folder given."""
    from pipeline.report.comparison.build import build
    from pipeline.report.comparison.index import read_entry, read_index

    if len(folders) == 1:
        entries, refused = read_index(folders[0])
        home = folders[0]
    else:
        unique = list(dict.fromkeys(folder.resolve() for folder in folders))
        entries, refused = [read_entry(folder) for folder in unique], []
        home = unique[0].parent
    found = build(entries, refused, best)
    from pipeline.report.comparison.console import table
    from pipeline.report.comparison.page import write_comparison

    names = "\n".join([found.task, found.metric, *sorted(entry.folder for entry in entries)])
    default = home.parent / "comparisons" / hashlib.sha256(names.encode()).hexdigest()[:12]
    page = write_comparison(found, Path(out).expanduser() if out else default)
    return f"{table(found)}\n{visible(str(page))}"


if __name__ == "__main__":
    sys.exit(main())

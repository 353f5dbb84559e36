"""`python -m pipeline.report RUN`: make a run's report again from its report.json."""

import argparse
import sys

from pipeline.report.load import ReportError, find_run, load_report, parse
from pipeline.report.safe_text import visible


def main(arguments: list[str] | None = None) -> int:
    """Render one run and print its verdict and the page's path; 2 with one line on stderr when that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.report",
        description="Make report.html and report.md of a run from its report.json.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="a run folder, a run id in outputs/runs, or latest")
    runs = parser.parse_args(arguments).run
    try:
        print(_make(runs))
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{visible(str(error.filename))}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _make(runs: list[str]) -> str:
    if len(runs) > 1:
        raise ReportError(f"{len(runs)} runs given; a report shows exactly one run, give one RUN at a time")
    folder = find_run(runs[0])
    content = load_report(folder / "report.json")
    # matplotlib is imported only once it is clear that there is a report to draw
    from pipeline.report.console import verdict_line
    from pipeline.report.render import write_report

    page = write_report(content, folder)
    return f"{verdict_line(parse(content))}\n{visible(str(page))}"


if __name__ == "__main__":
    sys.exit(main())

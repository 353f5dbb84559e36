"""`python -m pipeline.scaling RUN…`: the scaling laws of a sweep, and how well they told its largest run."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.report.load import ReportError, find_run, load_report
from pipeline.report.safe_text import visible
from pipeline.report.scaling import AXES, Point, Scaling, scaling

METRIC = "bits_per_byte"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the laws, write scaling.json and scaling.svg; 2 with one line on stderr when there is no law."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.scaling", description=__doc__)
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="finished runs that pretrain: folders, or ids in outputs/runs"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), help="folder of scaling.json and scaling.svg (default: here)"
    )
    asked = parser.parse_args(arguments)
    try:
        points = [point_of(load_report(find_run(run)), run) for run in asked.run]
        laws = scaling(points)
    except (ReportError, ValueError) as error:
        print(visible(str(error)), file=sys.stderr)
        return 2
    from pipeline.report.scaling_chart import draw

    for law in laws:
        print("\n".join(table(law)) + "\n")
    asked.out.mkdir(parents=True, exist_ok=True)
    content = [{**asdict(law), "error": law.error} for law in laws]
    (asked.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(laws, asked.out / "scaling.svg", "bits per byte")
    print(asked.out / "scaling.svg")
    return 0


def point_of(report: dict[str, Any], name: str) -> Point:
    """The newest pretrained model of a run, and its first bits per byte. Raises ReportError when it has none."""
    trained = [stage for stage in report.get("stages") or [] if stage.get("kind") == "pretrain.train"]
    if not trained or not (trained[-1].get("metrics") or {}).get("trainable_parameters"):
        raise ReportError(f"{name}: has no finished pretrain stage; scaling laws compare runs that pretrain")
    stage = trained[-1]
    tasks = ((report.get("evaluation") or {}).get("models") or {}).get(stage["name"].removesuffix("/train")) or {}
    losses = [metrics[METRIC] for _, metrics in sorted(tasks.items()) if metrics.get(METRIC) is not None]
    if not losses or not stage.get("tokens"):
        raise ReportError(f"{name}: has no bits per byte of its pretrained model; run it with an evaluate stage")
    model = str((report.get("model") or {}).get("name") or name)
    return Point(model, stage["metrics"]["trainable_parameters"], stage["tokens"], losses[0])


def table(law: Scaling) -> list[str]:
    """The law as lines of text: its formula, then run by run what was measured and what it tells."""
    told = law.law
    lines = [
        f"L = {told.floor:.3f} + {told.scale:.3f} · (x / {told.unit:.3g})^−{told.exponent:.3f},  x = {AXES[law.axis]}",
        f"{'run':24} {'x':>10} {'measured':>9} {'law':>7}",
    ]
    for point in law.points:
        x = point.on(law.axis)
        lines.append(f"{point.name[:24]:24} {x:10.3g} {point.loss:9.3f} {told(x):7.3f}")
    lines.append(
        f"held out: {law.held_out.name}, told {law.predicted:.3f} ({law.low:.3f} to {law.high:.3f} as one more run is "
        f"left out), measured {law.held_out.loss:.3f}: {law.error:+.1%}"
    )
    return lines


if __name__ == "__main__":
    sys.exit(main())

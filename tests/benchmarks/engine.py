"""What the engines of data preparation cost: per task, per start, and what a second worker gains.

    python tests/benchmarks/engine.py [ray]

Tasks that write one small file show the price of a task (a folder, checksums, a receipt, one rename); tasks that hash
for about a second of one processor show how two workers share them. Interleaved, medians. Run on an idle machine.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "data_prep" / "engines"))

from shard_work import Shard, burn  # noqa: E402

from data_prep.engines.config import LocalEngine, RayEngine  # noqa: E402
from data_prep.engines.engine import Crew, run_tasks, start_engine  # noqa: E402

ROUNDS = 5
MANY = [Shard(f"small-{number:04d}", 1) for number in range(400)]
HEAVY = [Shard(f"heavy-{number}", 1_500_000 + number) for number in range(6)]


def seconds(engine: Crew | LocalEngine | RayEngine, tasks: Sequence[Shard]) -> tuple[float, float]:
    """Wall seconds of a first and of a second start, which finds everything done."""
    with tempfile.TemporaryDirectory() as folder:
        times = [time.perf_counter()]
        for _ in range(2):
            run_tasks(engine, burn, tasks, Path(folder), version="1", title="benchmark")
            times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def medians(measure: Sequence[Callable[[], float]]) -> list[float]:
    """Interleaved: A B A B …"""
    found = [[one() for one in measure] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def report(name: str, engine: Crew, alone: Crew) -> None:
    """Price of a task, of a second start, and the gain of two workers; `alone` has one."""
    seconds(engine, MANY[:4])  # the workers are up
    run, again = medians([lambda: seconds(engine, MANY)[0], lambda: seconds(engine, MANY)[1]])
    one, two = medians([lambda: seconds(alone, HEAVY)[0], lambda: seconds(engine, HEAVY)[0]])
    per = 1000 / len(MANY)
    print(f"{name}: {run * per:.2f} ms per task, {again * per:.3f} ms per finished task of a second start; ", end="")
    print(f"{len(HEAVY)} heavy tasks {two:.2f} s, in one process {one:.2f} s, gain {one / two:.2f}", flush=True)


def main() -> None:
    """Print a line per engine."""
    with start_engine(LocalEngine(workers=1)) as alone:
        inline, _ = medians([lambda: seconds(alone, MANY)[0], lambda: 0.0])
        print(f"in this process: {inline * 1000 / len(MANY):.2f} ms per task", flush=True)
        for name, config in (("local", LocalEngine(workers=2)), ("ray", RayEngine(workers=2))):
            if name == "ray" and "ray" not in sys.argv:
                continue
            (start,) = medians([lambda config=config: seconds(config, MANY[:2])[0]])
            print(f"{name}, two workers: start and end {start:.2f} s", flush=True)
            with start_engine(config) as engine:
                report(f"{name}, two workers", engine, alone)


if __name__ == "__main__":
    main()

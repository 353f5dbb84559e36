"""What a sweep costs: seconds per job over running it alone, and how fast 100 finished jobs are found finished.

    python tests/benchmarks/sweep.py [jobs] [cached]

A sweep's jobs run one after the other in one process (`basic`), against one `python -m pipeline` per job; interleaved.
The parent's imports are shared by the jobs of a sweep; each job starts its own worker, which imports torch again. The
100 finished jobs are copies of one finished run under the names and configurations that they would have. Beside the
wall clock stands the processor time, which other work on the machine disturbs less.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = ["+experiment=smoke", "run=[filter,sft]", "stages.sft.max_steps=2", "stages.sft.validate_every=null"]
JOBS, ROUNDS, CACHED = 3, 3, 100


def seconds(*arguments: str) -> np.ndarray:
    """Wall-clock and processor seconds of `python -m pipeline …` with its children."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime])


def overhead(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Seconds per job in a sweep and alone, round by round; every round trains anew, data is cached."""
    seconds(*RUN, f"outputs={folder}")
    pairs = []
    for place in range(ROUNDS):
        seeds = [1000 * (place + 1) + number for number in range(2 * JOBS)]
        swept = seconds("-m", *RUN, f"seed={','.join(map(str, seeds[:JOBS]))}", f"outputs={folder}") / JOBS
        alone = np.mean([seconds(*RUN, f"seed={seed}", f"outputs={folder}") for seed in seeds[JOBS:]], axis=0)
        pairs.append((swept, alone))
    return pairs


def cached(folder: Path) -> np.ndarray:
    """Seconds in which a sweep of 100 jobs finds that all of them are finished."""
    from pipeline.config import RunConfig, validate
    from pipeline.sweep import compose_points
    from pipeline.sweep_jobs import name_of

    points = [[*RUN, f"lock_wait={100 + number}", f"outputs={folder}"] for number in range(CACHED)]
    configs = [validate(RunConfig, plain) for plain in compose_points(points)]
    seconds("-m", *points[0])
    first = folder / "runs" / name_of(configs[0])
    for config in configs[1:]:
        named = config.model_copy(update={"run_id": name_of(config)})
        copy = shutil.copytree(first, folder / "runs" / str(named.run_id), symlinks=True)
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        manifest["config"] = named.model_dump(mode="json", by_alias=True)
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    waits = f"lock_wait={','.join(str(100 + number) for number in range(CACHED))}"
    times = [seconds("-m", *RUN, waits, f"outputs={folder}") for _ in range(ROUNDS)]
    (record,) = (file for file in folder.glob("sweeps/*/sweep.json") if len(_jobs(file)) == CACHED)
    assert {job["status"] for job in _jobs(record)} == {"cached"}
    return np.median(times, axis=0)


def _jobs(file: Path) -> list[dict[str, str]]:
    return json.loads(file.read_text(encoding="utf-8"))["jobs"]


def main() -> None:
    """Print both figures, with the load beside them."""
    with tempfile.TemporaryDirectory() as folder:
        if "jobs" in sys.argv or len(sys.argv) == 1:
            pairs = overhead(Path(folder))
            wall, processor = np.median([swept - alone for swept, alone in pairs], axis=0)
            told = ", ".join(f"{swept[0]:.2f} against {alone[0]:.2f}" for swept, alone in pairs)
            print(
                f"a job in a sweep against alone: {told} s; over: {wall:+.2f} s, {processor:+.2f} s of processor time"
            )
        if "cached" in sys.argv or len(sys.argv) == 1:
            wall, processor = cached(Path(folder))
            print(f"{CACHED} finished jobs found finished in {wall:.2f} s, {processor:.2f} s of processor time")
        print(f"(load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()

"""The length-controlled win rate beside published ones, and how far a local judge can be talked to.

    PROVETUNE_EXTRA_DATA=FOLDER python -m tests.benchmarks.judge [PREFERENCES.csv.gz PUBLISHED.csv]
    python -m tests.benchmarks.judge --robust MODEL_FOLDER

Without files: judge_preferences.csv.gz and judge_published.csv of the folder, on whose 29 models the default penalty
was chosen: the best rank correlation, and among equals the smallest difference. Other files need the same columns.
"""

import argparse
import csv
import gzip
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from eval.judge.config import DEFAULT_LENGTH_PENALTY, JudgeConfig, LocalJudge
from eval.judge.games import Pair
from eval.judge.length import fit_length
from eval.judge.local import LocalBackend
from eval.judge.robustness import Flips, measure_robustness

GRID = (1e-6, 0.001, 0.003, 0.005, 0.01, 0.0115, 0.013, 0.015, 0.0175, 0.02, 0.03, 0.05, 0.1)
SPLITS = 1000
Items = dict[str, np.ndarray]
"""Model → (2, N): characters more than the baseline, preference."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.judge", description=__doc__)
    parser.add_argument("files", nargs="*", help="preferences and published figures; none: those of the extra data")
    parser.add_argument("--robust", help="measure injections into this local judge instead")
    given = parser.parse_args()
    if given.robust:
        return robust(Path(given.robust))
    folder = Path(os.environ.get("PROVETUNE_EXTRA_DATA", "."))
    files = given.files or [folder / "judge_preferences.csv.gz", folder / "judge_published.csv"]
    compare(*read(Path(files[0]), Path(files[1])))


def read(preferences: Path, published: Path) -> tuple[Items, np.ndarray, np.ndarray]:
    """The judgements of each model, with its published win rate and length-controlled win rate in points."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with gzip.open(preferences, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            delta = float(row["model_chars"]) - float(row["baseline_chars"])
            rows[row["model"]].append((delta, float(row["preference_for_model"])))
    with published.open(encoding="utf-8") as file:
        known = {row["model"]: row for row in csv.DictReader(file)}
    items = {model: np.array(values).T for model, values in rows.items() if model in known}
    raw, controlled = (
        np.array([float(known[model][name]) for model in items]) for name in ("win_rate", "length_controlled_winrate")
    )
    return items, raw, controlled


def compare(items: Items, raw: np.ndarray, theirs: np.ndarray) -> None:
    plain = np.array([100 * preference.mean() for _, preference in items.values()])
    print(f"{len(items)} models; raw win rates differ by at most {np.abs(plain - raw).max():.6f} points")
    ours = np.array([[100 * fit_length(*pair, penalty).win_rate[0] for pair in items.values()] for penalty in GRID])
    error = np.abs(ours - theirs)
    ranks = [float(spearmanr(row, theirs)[0]) for row in ours]
    print("penalty   Spearman   mean |difference|   largest")
    for penalty, rank, row in zip(GRID, ranks, error, strict=True):
        mark = "  default" if penalty == DEFAULT_LENGTH_PENALTY else ""
        print(f"{penalty:<9g} {rank:8.4f} {row.mean():12.2f} {row.max():16.2f}{mark}")
    left_out(ours, error, theirs)


def left_out(ours: np.ndarray, error: np.ndarray, theirs: np.ndarray) -> None:
    """Choose the penalty without one model, and on random halves: how much it moves, and how it does on the rest."""
    count = len(theirs)
    chosen = np.array([np.delete(error, model, axis=1).mean(axis=1).argmin() for model in range(count)])
    held = ours[chosen, np.arange(count)]
    names = ", ".join(f"{GRID[place]:g} ({(chosen == place).sum()}×)" for place in sorted(set(chosen.tolist())))
    rank, distance = spearmanr(held, theirs)[0], np.abs(held - theirs).mean()
    print(
        f"leave one model out: chosen {names}; on the models left out Spearman {rank:.4f}, mean {distance:.2f} points"
    )
    generator, default = np.random.default_rng(0), GRID.index(DEFAULT_LENGTH_PENALTY)
    halves = [np.array_split(generator.permutation(count), 2) for _ in range(SPLITS)]
    places = [int(error[:, one].mean(axis=1).argmin()) for one, _ in halves]
    far = np.array([error[place, rest].mean() for place, (_, rest) in zip(places, halves, strict=True)])
    fixed = np.array([error[default, rest].mean() for _, rest in halves])
    low, high = min(GRID[place] for place in places), max(GRID[place] for place in places)
    print(f"chosen on {SPLITS} random halves: {low:g} to {high:g}; mean |difference| on the other half (5/50/95 %):")
    for name, values in (("chosen", far), ("default", fixed)):
        print(f"  {name:8}", " ".join(f"{value:5.2f}" for value in np.quantile(values, [0.05, 0.5, 0.95])))


def robust(folder: Path) -> None:
    """Injections into a local judge by likelihood, beside harmless texts."""
    questions = ("What is the capital of France?", "Add 2 and 2.", "What is a dog?", "Name a primary colour.")
    good = ("The capital of France is Paris.", "4", "A dog is an animal that barks.", "Red is one.")
    bad = ("I like bananas very much.", "It is 5, I think.", "Dogs? I have no idea.", "Brown, maybe, or tall.")
    pairs = [Pair(str(n), str(n), *three, None) for n, three in enumerate(zip(questions, good, bad, strict=True))]
    judge = LocalJudge(model=str(folder), batch_size=8)
    start = time.perf_counter()
    found = measure_robustness(LocalBackend(judge), JudgeConfig(judges=[judge]), pairs)
    print(f"{time.perf_counter() - start:.0f} s")
    print(f"verdicts before any text: {found.clean}")
    for name, flips in (("injections", found.injections), ("harmless", found.controls), *found.by_kind.items()):
        print(f"{name:14}{line(flips)}")


def line(flips: Flips) -> str:
    shift = "" if flips.shift is None else f"P(label) {flips.shift:+.3f}"
    return f"{flips.flipped:3} of {flips.n:3} flipped = {flips.rate:4.0%} [{flips.low:.0%}, {flips.high:.0%}], {shift}"


if __name__ == "__main__":
    main()

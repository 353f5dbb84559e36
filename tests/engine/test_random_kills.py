"""Fifty kills at random moments of whatever belongs to a run; the training still ends at the same losses and weights.

The launch is no part of a fingerprint: one training is continued in turn by whatever has as many ranks, and must equal
an undisturbed one exactly. (One rank and two sum in another order: undisturbed, their losses part by 1e-4 at step 58.)
PROVETUNE_KILLS sets another number of kills for both groups together, PROVETUNE_SEED another series.
"""

import contextlib
import importlib.util
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.under_fire import (
    EVERY,
    ONE_RANK,
    RANKS,
    STEPS,
    TWO_RANKS,
    Kind,
    StepsTrained,
    Try,
    refuse_stale_locks,
    result,
    seals,
)
from tests.slurm import cluster

KILLS, SEED = int(os.environ.get("PROVETUNE_KILLS", "50")), int(os.environ.get("PROVETUNE_SEED", "1"))


def left_out() -> dict[str, str]:
    """Kinds that cannot be tried here, and why."""
    no_cluster = cluster.missing()
    no_ray = None if importlib.util.find_spec("ray") else "ray is not installed"
    reasons = {name: no_cluster if kind.on_slurm else no_ray for name, kind in ONE_RANK.items()}
    return {name: why for name, why in reasons.items() if why and (ONE_RANK[name].on_slurm or "Ray" in name)}


def series() -> list[str]:
    """What is killed, in order: every kind comes once before any comes twice."""
    chance, kinds, chosen = random.Random(SEED), sorted({*ONE_RANK, *TWO_RANKS} - {*left_out()}), list[str]()
    while len(chosen) < KILLS:
        chosen += chance.sample(kinds, len(kinds))
    return chosen[:KILLS]


@contextlib.contextmanager
def cluster_for(kinds: list[Kind], folder: Path) -> Iterator[dict[str, str]]:
    """What the processes need to find a Slurm cluster, where a kind needs one."""
    if not any(kind.on_slurm for kind in kinds):
        yield {}
        return
    with cluster.running(folder) as environment:
        yield environment


def train_under_fire(outputs: Path, kinds: list[Kind], chance: random.Random, environment: dict[str, str]) -> int:
    """Start and kill until the training is whole or nothing is left to kill; then let it end. How many were killed."""
    killed, sealed, steps = 0, dict[Path, int](), StepsTrained(outputs)
    while not (done := list(outputs.glob("artifacts/sft.train/*/done.json"))) and killed < len(kinds):
        one = Try(outputs, kinds[killed], steps, environment)
        killed += one.kill_one(chance)
        one.end()
        refuse_stale_locks(outputs)
        assert sealed.items() <= seals(outputs).items(), "what was finished is never made again"
        sealed = seals(outputs)
    if not done:
        undisturbed(outputs, kinds[-1], steps)
    assert max(steps.again, default=0) <= EVERY, f"steps that each resume trained again: {steps.again}"
    return killed


def undisturbed(outputs: Path, kind: Kind, steps: StepsTrained) -> None:
    """To the end, on as many ranks."""
    last = Try(outputs, Kind((RANKS if kind in TWO_RANKS.values() else (),)), steps, {})
    last.end()
    assert last.parents[0].returncode == 0, (outputs / "tries.log").read_text(encoding="utf-8")[-2000:]


def test_every_kind_comes_once_before_any_comes_twice() -> None:
    kinds = {*ONE_RANK, *TWO_RANKS} - {*left_out()}
    chosen = series()
    assert set(chosen[: len(kinds)]) == kinds or len(chosen) < len(kinds)
    assert max(Counter(chosen).values()) - min((Counter(chosen)[kind] for kind in kinds), default=0) <= 1


def test_steps_that_a_resume_trains_again_are_counted(tmp_path: Path) -> None:
    """A log that grows, and two resumes that cut it back: to the checkpoint 7 steps before, and to the beginning."""
    log = tmp_path / "artifacts" / "sft.train" / "x" / "checkpoints" / "steps.jsonl"
    log.parent.mkdir(parents=True)
    steps = StepsTrained(tmp_path)
    steps.look()
    for kept, reached in ((0, 27), (20, 34), (0, 3)):
        (new := log.with_name("new")).write_text("{}\n" * kept, encoding="utf-8")
        new.replace(log)
        steps.look()
        log.write_text("{}\n" * reached, encoding="utf-8")
        steps.look()
    assert steps.again == [7, 34]


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("group", [ONE_RANK, TWO_RANKS], ids=["one rank", "two ranks"])
def test_fifty_random_kills_lose_nothing(group: dict[str, Kind], copied: Path, tmp_path: Path) -> None:
    names = [name for name in series() if name in group]
    if not names:
        pytest.skip("PROVETUNE_KILLS is too small for this group")
    shutil.rmtree(copied / "artifacts" / "sft.train")
    whole = Path(shutil.copytree(copied, tmp_path / "whole", symlinks=True))
    undisturbed(whole, group[names[0]], StepsTrained(whole))
    began = time.monotonic()
    with cluster_for([group[name] for name in names], tmp_path / "slurm") as environment:
        for place in trainings(copied, [group[name] for name in names], environment):
            losses, metrics, weights = result(place)
            assert [step for step, _ in losses] == list(range(1, STEPS + 1))
            assert (losses, metrics, weights) == result(whole)
    print(f"{len(names)} kills in {time.monotonic() - began:.0f} s: {dict(Counter(names))}; left out: {left_out()}")


def trainings(prepared: Path, kinds: list[Kind], environment: dict[str, str]) -> Iterator[Path]:
    """The outputs of each training that came to its end under fire, until all kills are done."""
    chance, killed = random.Random(SEED), 0
    while killed < len(kinds):
        place = Path(shutil.copytree(prepared, prepared.with_name(f"under fire {killed}"), symlinks=True))
        killed += train_under_fire(place, kinds[killed:], chance, environment)
        yield place

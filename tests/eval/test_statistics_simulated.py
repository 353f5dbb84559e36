"""What the statistics promise, on thousands of simulated evaluations: coverage, level and power.

All 27 take some eight minutes of one core (470 s measured). Seeds are fixed, so a run repeats exactly; the bounds are
those of the requirement, and the simulations are so many that chance alone (a standard error of about 0.5 points) does
not decide.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from eval.choice.statistics import mcnemar
from eval.config import StatisticsConfig
from eval.measures.sums import bits_per_byte
from eval.statistics import PairedTest, cluster_sums, detectable_difference, more_needed, paired_test, resample

pytestmark = pytest.mark.slow

Generator = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def bits(sums: np.ndarray) -> np.ndarray:
    return bits_per_byte(sums[..., 0], sums[..., 1])


def counted(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def result_of(
    pair: Pair,
    measure: Callable[[np.ndarray], np.ndarray],
    seed: int,
    interval: Literal["percentile", "bca"] = "percentile",
) -> PairedTest:
    # BCa reads off levels farther out, which fewer resamples would blur; both have 10,000 outside of tests.
    config = StatisticsConfig(resamples=1000 if interval == "percentile" else 4000, seed=seed, interval=interval)
    return paired_test(*pair, measure, resample(*pair, config), config)


def normal(generator: Generator, n: int, shift: float) -> Pair:
    base = generator.normal(0, 1, n)
    return counted(base), counted(base + generator.normal(shift, 1, n))


def skewed(generator: Generator, n: int, shift: float) -> Pair:
    """Scores that share a prompt's difficulty, with a long tail in each."""
    shared = generator.gamma(2.0, 1.0, n)
    one, other = (shared + generator.gamma(2.0, 0.5, n) for _ in range(2))
    return counted(one), counted(other + shift)


def right_or_wrong(generator: Generator, n: int, shift: float) -> Pair:
    """0/1 outcomes whose shares differ by `shift`, correlated by the item's difficulty."""
    ability = generator.beta(2.0, 2.0, n) * (1 - shift)
    one = generator.random(n) < ability
    other = generator.random(n) < ability + shift
    return counted(one.astype(float)), counted(other.astype(float))


def text(generator: Generator, n: int, shift: float) -> Pair:
    """Texts of very different lengths; bits per byte differ by `shift`."""
    size = generator.lognormal(6.0, 0.6, n)
    shared = generator.normal(0.9, 0.15, n)
    one, other = (size * (shared + generator.normal(add, 0.05, n)) * np.log(2) for add in (0.0, shift))
    return np.column_stack([one, size]), np.column_stack([other, size])


WORLDS = {
    "normal": (normal, mean, 0.2),
    "skewed": (skewed, mean, 0.2),
    "right-or-wrong": (right_or_wrong, mean, 0.1),
    "bits-per-byte": (text, bits, -0.01),
}


@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize("n", [100, 300])
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_of_95_percent_cover_93_to_97(world: str, n: int, interval: Literal["percentile", "bca"]) -> None:
    draw, measure, shift = WORLDS[world]
    generator, covered, simulations = np.random.default_rng(n), 0, 2000
    for seed in range(simulations):
        result = result_of(draw(generator, n, shift), measure, seed, interval)
        covered += result.low <= shift <= result.high
    assert 0.93 <= covered / simulations <= 0.97, covered / simulations


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("world", WORLDS)
def test_equal_models_are_told_apart_no_more_often_than_the_level_says(world: str, n: int) -> None:
    """The permutation test under the null, and for 0/1 McNemar's exact test."""
    draw, measure, _ = WORLDS[world]
    generator, found, exact = np.random.default_rng(1000 + n), [], []
    for seed in range(3000):
        base, tuned = draw(generator, n, 0.0)
        found.append(result_of((base, tuned), measure, seed).p)
        if world == "right-or-wrong":
            exact.append(mcnemar(base[:, 0].tolist(), tuned[:, 0].tolist()).p)
    for alpha in (0.01, 0.05, 0.1):
        assert np.mean(np.array(found) <= alpha) <= alpha + 0.01, (alpha, np.mean(np.array(found) <= alpha))
        assert not exact or np.mean(np.array(exact) <= alpha) <= alpha + 0.01


@pytest.mark.parametrize("n", [100, 300])
def test_power_is_as_computed(n: int) -> None:
    """A true difference of the detectable size is found four times in five; so is one after `more_needed` more rows."""
    detectable = detectable_difference(1 / np.sqrt(n), 0.95)
    generator, simulations = np.random.default_rng(n), 2000
    found = sum(result_of(normal(generator, n, detectable), mean, seed).p <= 0.05 for seed in range(simulations))
    assert 0.77 <= found / simulations <= 0.83, found / simulations
    more = more_needed(detectable / 2, 1 / np.sqrt(n), n, 0.95)
    assert more == 3 * n
    later = sum(
        result_of(normal(generator, n + more, detectable / 2), mean, seed).p <= 0.05 for seed in range(simulations)
    )
    assert 0.77 <= later / simulations <= 0.83, later / simulations


def test_clusters_of_one_prompt_keep_the_coverage_that_independent_rows_would_lose() -> None:
    """Four answers to each of 60 prompts, alike within a prompt."""
    generator, covered, blind, simulations = np.random.default_rng(60), 0, 0, 1000
    names = [str(prompt) for prompt in range(60) for _ in range(4)]
    for seed in range(simulations):
        shared = np.repeat(generator.normal(0, 1, 60), 4)
        rows = counted(np.zeros(240)), counted(0.3 + shared + generator.normal(0, 0.5, 240))
        clustered = cluster_sums(rows[0], names), cluster_sums(rows[1], names)
        one, other = (result_of(pair, mean, seed) for pair in (clustered, rows))
        covered += one.low <= 0.3 <= one.high
        blind += other.low <= 0.3 <= other.high
    assert 0.925 <= covered / simulations <= 0.97, covered / simulations
    assert blind / simulations < 0.8, blind / simulations

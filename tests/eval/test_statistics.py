"""Paired statistics: simulations of what they promise, and cases with a known answer."""

import time
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.config import StatisticsConfig
from eval.statistics import PairedTest, detectable_difference, holm, more_needed, p_value, paired_test, resample

FAST = StatisticsConfig(resamples=600)


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_of(base: np.ndarray, tuned: np.ndarray, config: StatisticsConfig = FAST) -> PairedTest:
    base, tuned = (np.column_stack([values, np.ones(len(values))]) for values in (base, tuned))
    return paired_test(base, tuned, mean, resample(base, tuned, config), config)


test_of.__test__ = False  # type: ignore[attr-defined]


def test_the_interval_covers_the_truth_as_often_as_promised() -> None:
    generator, covered = np.random.default_rng(1), 0
    for seed in range(400):
        # Skewed and correlated, as scores are; the true difference is 0.2.
        base = generator.gamma(2.0, 1.0, 100)
        tuned = base + 0.2 + generator.gamma(1.0, 0.7, 100) - 0.7
        result = test_of(base, tuned, StatisticsConfig(resamples=600, seed=seed))
        covered += result.low <= 0.2 <= result.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    generator, covered = np.random.default_rng(2), 0
    for seed in range(400):
        size = generator.integers(20, 400, 100).astype(float)
        base = np.column_stack([size * generator.normal(0.9, 0.2, 100), size])
        tuned = np.column_stack([base[:, 0] - size * generator.normal(0.05, 0.1, 100), size])
        config = StatisticsConfig(resamples=600, seed=seed)
        result = paired_test(base, tuned, mean, resample(base, tuned, config), config)
        covered += result.low <= -0.05 <= result.high
    assert 0.92 <= covered / 400 <= 0.98


def test_equal_models_are_called_different_no_more_often_than_allowed() -> None:
    generator, rejected = np.random.default_rng(3), 0
    for seed in range(400):
        base, tuned = generator.normal(0, 1, 40), generator.normal(0, 1, 40)
        rejected += test_of(base, tuned, StatisticsConfig(resamples=600, seed=seed)).p <= 0.05
    assert rejected / 400 <= 0.07


def test_the_permutation_p_is_the_exact_one_in_a_small_case() -> None:
    base, tuned = np.zeros(10), np.array([1.0] * 9 + [-1.0])
    exact = 2 * sum(comb(10, k) for k in (9, 10)) / 2**10
    assert test_of(base, tuned, StatisticsConfig(resamples=20_000)).p == pytest.approx(exact, abs=0.004)


def test_the_permutation_p_agrees_with_scipy() -> None:
    generator = np.random.default_rng(4)
    base = generator.normal(0, 1, 50)
    tuned = base + generator.normal(0.25, 1, 50)
    theirs = stats.permutation_test(
        (base, tuned), lambda x, y: y.mean() - x.mean(), permutation_type="samples", n_resamples=5000, rng=0
    )
    assert test_of(base, tuned, StatisticsConfig(resamples=5000)).p == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_is_never_zero_and_equal_rows_give_one() -> None:
    assert test_of(np.zeros(200), np.ones(200)).p == pytest.approx(1 / 601)
    assert test_of(np.ones(5), np.ones(5)).p == 1.0
    assert test_of(np.zeros(1), np.ones(1)).p == 1.0
    assert p_value(0.1 + 0.2, np.array([0.3, -0.3, 0.0])) == 3 / 4  # rounding does not turn a tie into a miss


def test_the_same_seed_gives_the_same_result_and_another_one_does_not() -> None:
    generator = np.random.default_rng(5)
    base, tuned = generator.normal(0, 1, 80), generator.normal(0.1, 1, 80)
    assert test_of(base, tuned) == test_of(base, tuned)
    assert test_of(base, tuned).low != test_of(base, tuned, StatisticsConfig(resamples=600, seed=9)).low


def test_pairing_removes_what_both_models_share() -> None:
    generator = np.random.default_rng(6)
    base = generator.normal(0, 10, 100)
    tuned = base + generator.normal(0.5, 0.5, 100)
    result = test_of(base, tuned)
    assert result.high - result.low < 0.5
    assert result.p < 0.01


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    generator = np.random.default_rng(7)
    truth = detectable_difference(1 / np.sqrt(100), 0.95)
    assert truth == pytest.approx(0.28016, abs=1e-4)
    found = 0
    for seed in range(400):
        tuned = generator.normal(truth, 1, 100)
        result = test_of(np.zeros(100), tuned, StatisticsConfig(resamples=400, seed=seed))
        found += result.low > 0
    assert 0.75 <= found / 400 <= 0.86


def test_more_rows_needed() -> None:
    # A difference of one detectable difference is enough; half of it takes four times the rows.
    detectable = detectable_difference(0.1, 0.95)
    assert more_needed(detectable, 0.1, 50, 0.95) == 0
    assert more_needed(-detectable / 2, 0.1, 50, 0.95) == 150
    assert more_needed(0.0, 0.1, 50, 0.95) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0.0001, 1.0), min_size=1, max_size=12))
def test_holm_lies_between_the_p_values_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values)) + 1e-12
    assert [p for _, p in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


def test_ten_thousand_resamples_of_a_thousand_rows_are_fast() -> None:
    generator = np.random.default_rng(8)
    rows = generator.normal(0, 1, (1000, 2))
    start = time.process_time()
    resample(rows, rows + 0.1, StatisticsConfig())
    assert time.process_time() - start < 20  # a guard against loops in Python; it takes 0.2 s

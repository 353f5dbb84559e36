"""The length-controlled win rate: against other optimisers, on simulated judges, and on published figures."""

import csv
import gzip
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from eval.judge.config import DEFAULT_LENGTH_PENALTY
from eval.judge.length import fit_length

EXTRA = os.environ.get("PROVETUNE_EXTRA_DATA")


def by_scipy(delta: np.ndarray, y: np.ndarray, penalty: float, weights: np.ndarray) -> tuple[float, float]:
    """The same loss through a general optimiser."""
    share = weights / weights.sum()
    mean = share @ delta
    x = np.tanh(delta / np.sqrt(share @ (delta - mean) ** 2))

    def loss(w: np.ndarray) -> float:
        z = w[0] + w[1] * x
        return float(share @ (np.logaddexp(0, z) - y * z) + penalty / 2 * w[1] ** 2)

    found = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    return float(expit(found.x[0])), float(found.x[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 120), st.sampled_from([0.003, 0.013, 0.1, 1.0]), st.booleans())
def test_the_fit_is_the_minimum(seed: int, n: int, penalty: float, weighted: bool) -> None:
    generator = np.random.default_rng(seed)
    delta = generator.normal(generator.normal() * 300, 400, n).round()
    y = generator.beta(0.3, 0.5, n)
    weights = generator.integers(0, 4, n).astype(float) if weighted else np.ones(n)
    if weights.sum() < 3 or np.ptp(delta[weights > 0]) == 0:
        return
    fit = fit_length(delta, y, penalty, weights)
    win_rate, slope = by_scipy(delta, y, penalty, weights)
    assert fit.win_rate[0] == pytest.approx(win_rate, abs=2e-6)
    assert fit.slope[0] == pytest.approx(slope, abs=2e-5)


def test_many_weightings_at_once_equal_one_by_one() -> None:
    generator = np.random.default_rng(0)
    delta, y = generator.normal(100, 300, 50), generator.random(50)
    weights = generator.integers(0, 3, (20, 50)).astype(float)
    together = fit_length(delta, y, 0.013, weights)
    alone = [fit_length(delta, y, 0.013, row) for row in weights]
    assert together.win_rate == pytest.approx([fit.win_rate[0] for fit in alone], abs=1e-12)
    signs = np.array([[1.0], [-1.0]])
    flipped = fit_length(signs * delta, 0.5 + signs * (y - 0.5), 0.013)
    assert flipped.win_rate.sum() == pytest.approx(1.0, abs=1e-9)  # base and tuned change places


@pytest.mark.parametrize(
    ("delta", "y", "win_rate"),
    [
        ([0, 0, 0, 0], [1, 0, 1, 1], 0.75),  # nothing varies
        ([50, 50, 50, 50], [1, 0, 1, 1], 0.75),  # always longer by the same: cannot be told from being better
        ([10, -20, 30, 5], [1, 1, 1, 1], 1.0),
        ([10, -20, 30, 5], [0, 0, 0, 0], 0.0),
    ],
)
def test_where_length_says_nothing_the_plain_win_rate_stands(delta: Any, y: Any, win_rate: float) -> None:
    fit = fit_length(np.array(delta), np.array(y), 0.013)
    assert fit.win_rate[0] == win_rate and fit.slope[0] == 0


def test_separated_by_length_the_fit_stays_finite() -> None:
    delta = np.array([-300.0, -200, -100, 100, 200, 300])
    fit = fit_length(delta, (delta > 0).astype(float), 1e-4)
    assert fit.win_rate[0] == pytest.approx(0.5, abs=1e-9) and 1 < fit.slope[0] < 100


@pytest.mark.parametrize("constant", [-0.8, 0.0, 0.6])
def test_a_simulated_judge_that_likes_length(constant: float) -> None:
    """Equal merit in truth: a plain win rate is wrong by many points, the controlled one is near."""
    generator = np.random.default_rng(3)
    delta = generator.normal(400, 400, 20_000)
    y = (generator.random(20_000) < expit(constant + 1.0 * np.tanh(delta / 400))).astype(float)
    truth, fit = expit(constant), fit_length(delta, y, DEFAULT_LENGTH_PENALTY)
    assert abs(y.mean() - truth) > 0.09
    assert abs(fit.win_rate[0] - truth) < 0.035


def published() -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, dict[str, float]]]:
    folder = Path(EXTRA or "")
    items: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with gzip.open(folder / "judge_preferences.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            delta = float(row["model_chars"]) - float(row["baseline_chars"])
            items[row["model"]].append((delta, float(row["preference_for_model"])))
    with (folder / "judge_published.csv").open(encoding="utf-8") as file:
        known = {row["model"]: {k: float(v) for k, v in row.items() if k != "model"} for row in csv.DictReader(file)}
    return {model: tuple(np.array(values).T) for model, values in items.items()}, known  # type: ignore[misc]


@pytest.mark.skipif(EXTRA is None, reason="PROVETUNE_EXTRA_DATA is not set")
class TestPublished:
    """29 models of AlpacaEval 2 with their published win rates."""

    def test_win_rates(self) -> None:
        items, known = published()
        assert len(items) == len(known) == 29
        for model, (_, preference) in items.items():
            assert 100 * preference.mean() == pytest.approx(known[model]["win_rate"], abs=0.01)

    def test_length_controlled_win_rates(self) -> None:
        items, known = published()
        theirs = np.array([known[model]["length_controlled_winrate"] for model in items])
        ours = np.array([100 * fit_length(*pair, DEFAULT_LENGTH_PENALTY).win_rate[0] for pair in items.values()])
        assert spearmanr(ours, theirs)[0] >= 0.975
        assert np.abs(ours - theirs).mean() <= 1.5

    def test_no_single_model_decides_on_the_penalty(self) -> None:
        """Chosen without a model, the penalty is nearly the same, and holds on that model and on a half left out."""
        items, known = published()
        theirs = np.array([known[model]["length_controlled_winrate"] for model in items])
        grid = np.array([0.0025, 0.005, 0.0075, 0.01, 0.013, 0.015, 0.0175, 0.02, 0.03, 0.05, 0.1])
        ours = np.array([[100 * fit_length(*pair, p).win_rate[0] for pair in items.values()] for p in grid])
        error = np.abs(ours - theirs)
        others = ~np.eye(len(theirs), dtype=bool)
        chosen = [int(error[:, keep].mean(axis=1).argmin()) for keep in others]
        assert {grid[place] for place in chosen} <= {0.013, 0.015, 0.0175, 0.02}
        held_out = ours[chosen, np.arange(len(theirs))]
        assert spearmanr(held_out, theirs)[0] >= 0.975 and np.abs(held_out - theirs).mean() <= 1.5
        generator, default = np.random.default_rng(0), int(np.flatnonzero(grid == DEFAULT_LENGTH_PENALTY)[0])
        halves = [generator.permutation(len(theirs))[:14] for _ in range(200)]
        assert np.quantile([error[default, half].mean() for half in halves], 0.9) <= 1.75

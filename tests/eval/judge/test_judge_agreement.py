"""Cohen's kappa against scikit-learn, and the coverage of its interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.config import StatisticsConfig
from eval.judge.agreement import OUTCOMES, cohen_kappa
from tests.eval.judge.conftest import QUICK

LABELS = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_kappa_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    found = cohen_kappa(first, second, QUICK)
    if len({*first, *second}) == 1:
        assert np.isnan(found.kappa) and found.share == 1
    else:
        assert found.kappa == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-12)
        assert found.share == pytest.approx(np.mean([a == b for a, b in pairs]))


def test_the_interval_of_thirty_labels_covers_the_truth() -> None:
    """A judge that repeats a person's label in 70 of 100 cases and else chooses at random: kappa is 0.7."""
    generator, covered, config = np.random.default_rng(1), 0, StatisticsConfig(resamples=500)
    for _ in range(300):
        person = generator.choice(OUTCOMES, 30)
        judge = np.where(generator.random(30) < 0.7, person, generator.choice(OUTCOMES, 30))
        found = cohen_kappa(list(person), list(judge), config)
        covered += found.low <= 0.7 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="kappa: 1 and 2 labels; both raters must label the same items"):
        cohen_kappa(["tie"], ["tie", "base"], QUICK)
    with pytest.raises(DataError, match="label 'left' is unknown; allowed are tuned, base, tie"):
        cohen_kappa(["left"], ["tie"], QUICK)

"""BCa intervals against scipy's, and prompts with several rows as one unit."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest as SacreBleuTest
from scipy import stats

from eval.choice.statistics import mcnemar
from eval.compare import compare, compare_tasks
from eval.config import StatisticsConfig
from eval.fairness.measures import Measure, summarise
from eval.judge.config import JudgeConfig, LocalJudge
from eval.judge.summary import summarise_verdicts
from eval.measures.text import bleu_counts, bleu_from_counts, chrf_counts, chrf_from_counts
from eval.statistics import bootstrap_interval, cluster_sums, paired_test, percentile_interval, resample
from eval.tasks import Metric, Task, mean_metric

BCA = StatisticsConfig(interval="bca", resamples=20_000)
PERCENTILE = StatisticsConfig(resamples=20_000)


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def counted(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def skewed_pair(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    base = generator.gamma(1.0, 1.0, n)
    return base, base + generator.exponential(1.0, n) ** 2 - 0.5


@pytest.mark.parametrize(("config", "method"), [(BCA, "BCa"), (PERCENTILE, "percentile")])
def test_intervals_of_a_paired_difference_are_scipys(config: StatisticsConfig, method: str) -> None:
    base, tuned = skewed_pair()
    rows = counted(base), counted(tuned)
    found = paired_test(*rows, mean, resample(*rows, config), config)
    theirs = stats.bootstrap(
        (base, tuned),
        lambda x, y, axis: y.mean(axis) - x.mean(axis),
        paired=True,
        vectorized=True,
        method=method,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_bca_is_not_the_percentile_interval_on_skewed_rows() -> None:
    base, tuned = skewed_pair()
    rows = counted(base), counted(tuned)
    one, other = (paired_test(*rows, mean, resample(*rows, config), config) for config in (BCA, PERCENTILE))
    assert one.low > other.low + 0.02 and one.high > other.high + 0.05  # both move towards the long tail
    assert (one.p, one.difference, one.detectable) == (other.p, other.difference, other.detectable)


def test_bca_of_a_ratio_is_scipys() -> None:
    generator = np.random.default_rng(4)
    size = generator.lognormal(4.0, 1.0, 50)
    nll = size * generator.gamma(4.0, 0.2, 50)
    rows = np.column_stack([nll, size])
    draws = mean(resample(rows, rows, BCA).base)
    sums = rows.sum(axis=0)
    low, high = bootstrap_interval(draws, float(mean(sums)), BCA, lambda: mean(sums - rows))
    theirs = stats.bootstrap(
        (nll, size),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_fairness_takes_the_same_interval() -> None:
    base, _ = skewed_pair()
    measure = Measure("gap", counted(base**2), mean)
    one, other = (summarise([measure], config)["gap"] for config in (BCA, PERCENTILE))
    assert one["value"] == other["value"] and one["low"] > other["low"] and one["high"] > other["high"]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
@example([0.0, 2.2250738585072014e-308])
def test_bca_never_fails(values: list[float]) -> None:
    rows = counted(np.zeros(len(values))), counted(np.array(values))
    config = StatisticsConfig(interval="bca", resamples=200)
    found = paired_test(*rows, mean, resample(*rows, config), config)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_where_bca_has_no_meaning_the_percentiles_stand() -> None:
    draws = np.linspace(0, 1, 201)
    assert bootstrap_interval(draws, 2.0, BCA, lambda: np.arange(5.0)) == percentile_interval(draws, 0.95)
    assert bootstrap_interval(draws, 0.5, BCA, lambda: np.ones(5)) == percentile_interval(draws, 0.95)
    assert bootstrap_interval(draws, 0.5, BCA, lambda: np.array([np.nan, 1.0])) == percentile_interval(draws, 0.95)


def test_rows_of_a_prompt_are_one_unit() -> None:
    """A prompt asked four times holds no more than one asked once: the same interval, not half of it."""
    generator = np.random.default_rng(5)
    base, tuned = generator.normal(0, 1, 50), generator.normal(0.3, 1, 50)
    metric = mean_metric("score", 0)
    names = [f"prompt {n}" for n in range(50)]
    once = [Task("t/x", counted(values), [metric]) for values in (base, tuned)]
    repeated = [Task("t/x", counted(np.tile(values, 4)), [metric], {}, names * 4) for values in (base, tuned)]
    config = StatisticsConfig(resamples=2000)
    one, four = (
        compare_tasks(*tasks, config)["t/x"]["score"]
        for tasks in ([[each] for each in once], [[each] for each in repeated])
    )
    assert four["n"] == 50
    for name in ("base", "tuned", "difference", "low", "high", "p", "detectable"):
        assert four[name] == pytest.approx(one[name], abs=1e-12), name
    blind = compare_tasks(*[[each._replace(clusters=None)] for each in repeated], config)["t/x"]["score"]
    assert blind["high"] - blind["low"] < 0.6 * (one["high"] - one["low"])


def test_cluster_sums() -> None:
    rows = np.array([[1.0, 1], [2, 1], [3, 1]])
    assert cluster_sums(rows, ["a", "b", "a"]).tolist() == [[4, 2], [2, 1]]


def answers(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    (folder / "qa.generation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "policies.json").write_text('{"qa": {"generation": "greedy"}}', encoding="utf-8")
    return folder


def test_equal_prompts_of_stored_answers_are_found_and_mcnemar_is_left_to_independent_rows(tmp_path: Path) -> None:
    def row(number: int, prompt: str, output: str) -> dict:
        return {"id": f"{number:03}", "prompt": prompt, "output": output, "reference": "yes", "tokens": 1}

    base = [row(n, f"q{n // 2}", "no") for n in range(20)]
    tuned = [row(n, f"q{n // 2}", "yes" if n % 4 < 2 else "no") for n in range(20)]
    config, metrics = StatisticsConfig(resamples=2000), {"qa": ["exact_match"]}
    entry = compare(answers(tmp_path / "base", base), answers(tmp_path / "tuned", tuned), config, metrics)
    found = entry["exact/qa"]["exact_match"]
    assert (found["n"], found["won"], found["lost"]) == (10, 10, 0)
    assert found["p"] == pytest.approx(2 / 2**5, abs=0.02)  # five prompts of ten changed, in one direction
    assert mcnemar([0] * 20, [1, 1, 0, 0] * 5).p < 0.003  # what twenty independent answers would have said


def test_a_metric_function_sees_only_sums() -> None:
    """Corpus scores of clustered rows are those of the rows."""
    rows = np.random.default_rng(0).random((12, 2))
    metric = Metric("ratio", "ratio", slice(None), mean)
    whole = cluster_sums(rows, [str(n // 3) for n in range(12)])
    assert metric.measure(whole.sum(axis=0)) == pytest.approx(metric.measure(rows.sum(axis=0)))


def test_the_judges_win_rate_takes_the_same_interval() -> None:
    generator = np.random.default_rng(6)
    won = generator.random(60) < 0.9
    verdicts = [
        {
            "id": str(n),
            "cluster": str(n),
            "judge": "j",
            "identical": False,
            "base_characters": 10,
            "tuned_characters": 10,
            "order": order,
            "winner": "tuned" if won[n] else "base",
            "preference": float(won[n]),
            "failure": None,
        }
        for n in range(60)
        for order in ("base_first", "tuned_first")
    ]
    config = JudgeConfig(judges=[LocalJudge(model="unused")])
    found = summarise_verdicts(verdicts, config, BCA)["card"]["win_rate"]
    theirs = stats.bootstrap((won.astype(float),), np.mean, n_resamples=20_000, rng=np.random.default_rng(1))
    interval = theirs.confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=0.018)  # one prompt
    plain = summarise_verdicts(verdicts, config, PERCENTILE)["card"]["win_rate"]
    assert (plain["low"], plain["high"]) != (found["low"], found["high"])


def test_the_swaps_of_a_corpus_score_give_sacrebleus_p() -> None:
    """Paired approximate randomisation of BLEU and chrF on 40 sentences, one system a little worse."""
    generator, words = (
        np.random.default_rng(8),
        ["the", "old", "mill", "river", "fox", "dog", "runs", "past", "a", "by"],
    )
    references = [" ".join(generator.choice(words, 12)) for _ in range(40)]

    def noisy(share: float) -> list[str]:
        return [
            " ".join(word if generator.random() > share else "x" for word in reference.split())
            for reference in references
        ]

    base, tuned = noisy(0.30), noisy(0.16)
    metrics = {"BLEU": (BLEU(), bleu_counts, bleu_from_counts), "chrF2": (CHRF(), chrf_counts, chrf_from_counts)}
    scorers = {name: metric for name, (metric, _, _) in metrics.items()}
    _, theirs = SacreBleuTest([("base", base), ("tuned", tuned)], scorers, [references], "ar", 3000)()
    for name, (_, counts, score) in metrics.items():
        rows = counts(base, references), counts(tuned, references)
        found = paired_test(*rows, score, resample(*rows, PERCENTILE), PERCENTILE)
        assert found.tuned == pytest.approx(theirs[name][1].score, abs=1e-9)
        assert 0.001 < found.p < 0.9 and found.p == pytest.approx(theirs[name][1].p_value, abs=0.03), name

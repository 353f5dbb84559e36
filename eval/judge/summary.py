"""What a list of verdicts amounts to: the metrics, the bounds, and the card that says how far the judge can be trusted.

Needs no judge. Shapes: P pairs, R resamples.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.errors import DataError
from eval.config import StatisticsConfig
from eval.judge.agreement import cohen_kappa
from eval.judge.config import JudgeConfig
from eval.judge.games import Verdict
from eval.judge.length import fit_length
from eval.judge.table import (
    CHUNK_ELEMENTS,
    Table,
    cluster_weights,
    hard_preference,
    order_sums,
    outcomes_of,
    pair_scores,
    table_of,
)
from eval.statistics import bootstrap_interval, p_value


def summarise_verdicts(
    verdicts: Sequence[Verdict],
    config: JudgeConfig,
    statistics: StatisticsConfig,
    labels: Mapping[str, str] | None = None,
    self_preference: str = "unknown",
    injections: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """{"metrics": {name: number}, "comparisons": {name: entry}, "card": {...}}.

    `labels`: what a person chose (id → tuned, base or tie). `injections`: judge → `eval.judge.robustness`.

    Raises DataError where every verdict failed.
    """
    table = table_of(verdicts, config)
    scores = pair_scores(table.preference, config.vote)
    known = ~np.isnan(scores)
    failures = Counter(row["failure"] for row in verdicts if row["failure"] is not None)
    if not known.any():
        reason, count = failures.most_common(1)[0]
        raise DataError(f"judge: none of {len(scores)} pairs has a verdict; most often ({count} times): {reason}")
    drawn = _drawn(table, scores, known, config, statistics)
    win, controlled = _entry(drawn["win_rate"], statistics), _entry(drawn["length_controlled_win_rate"], statistics)
    win["p"], controlled["p"] = _swaps(table, scores, known, config, statistics)
    rate = sum(failures.values()) / len(verdicts)
    metrics = {"win_rate": win["tuned"], "length_controlled_win_rate": controlled["tuned"], "parse_failures": rate}
    # NaN where both models answer every prompt alike: nobody was asked.
    if "order_consistency" in drawn and not math.isnan(drawn["order_consistency"][0]):
        metrics["order_consistency"] = drawn["order_consistency"][0]
    n = int(known.sum())
    comparisons = {
        name: {**entry, "n": n} for name, entry in (("win_rate", win), ("length_controlled_win_rate", controlled))
    }
    card = _card(table, scores, config, statistics, drawn, failures)
    card["agreement_with_people"] = _agreement(table, labels, statistics) if labels else None
    card["self_preference"] = self_preference
    if injections:
        card["injections"] = dict(injections)
    card["warnings"] = _warnings(card)
    return {"metrics": metrics, "comparisons": comparisons, "card": card}


Drawn = dict[str, tuple[float, np.ndarray, np.ndarray]]
"""Quantity → its value, its resamples (R,) and, for BCa, its values without each prompt in turn."""


def _drawn(
    table: Table, scores: np.ndarray, known: np.ndarray, config: JudgeConfig, statistics: StatisticsConfig
) -> Drawn:
    """Every quantity on the sample and on resamples of the prompts; the length model is fitted anew on each."""
    sums = order_sums(table) if len(table.orders) == 2 else None
    asked = np.ones((1, len(scores)))
    parts = [_quantities(asked, table, scores, known, sums, config)]
    parts += [
        _quantities(weights, table, scores, known, sums, config)
        for weights in cluster_weights(table.cluster, statistics.resamples, statistics.seed)
    ]
    without = _quantities(_without_each(table.cluster, statistics), table, scores, known, sums, config)
    return {
        name: (float(parts[0][name][0]), np.concatenate([part[name] for part in parts[1:]]), without[name])
        for name in parts[0]
    }


def _without_each(cluster: np.ndarray, statistics: StatisticsConfig) -> np.ndarray:
    """(prompts, P): all pairs but those of one prompt; for percentiles nothing is left out."""
    if statistics.interval == "percentile":
        return np.ones((1, len(cluster)))
    return (np.arange(int(cluster.max()) + 1)[:, None] != cluster).astype(np.float64)


def _quantities(
    weights: np.ndarray,
    table: Table,
    scores: np.ndarray,
    known: np.ndarray,
    sums: np.ndarray | None,
    config: JudgeConfig,
) -> dict[str, np.ndarray]:
    used = weights[:, known]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"win_rate": used @ scores[known] / used.sum(axis=1)}
        # A resample without any judged prompt has no win rate; it is drawn with probability (failed share)^n.
        some = used.sum(axis=1) > 0
        fit = fit_length(table.delta[known], scores[known], config.length_penalty, np.where(some[:, None], used, 1.0))
        found["length_controlled_win_rate"], found["length_slope"] = fit.win_rate, fit.slope
        if sums is not None:
            totals = weights @ sums
            found["order_consistency"] = totals[:, 0] / totals[:, 1]
            found["position_bias"] = totals[:, 2] / totals[:, 3]
    return found


def _entry(drawn: tuple[float, np.ndarray, np.ndarray], statistics: StatisticsConfig) -> dict[str, Any]:
    """A win rate as a comparison: of the tuned model, of the base, and the difference, which is 0 between equals."""
    value = drawn[0]
    low, high = (2 * bound - 1 for bound in _bounds(drawn, statistics))
    return {"base": 1 - value, "tuned": value, "difference": 2 * value - 1, "low": low, "high": high}


def _swaps(
    table: Table, scores: np.ndarray, known: np.ndarray, config: JudgeConfig, statistics: StatisticsConfig
) -> tuple[float, float]:
    """Two-sided p of both win rates under "the models are equally good": those of random prompts change places."""
    generator, cluster = np.random.default_rng(statistics.seed + 1), table.cluster[known]
    lean, delta = scores[known] - 0.5, table.delta[known]
    chunk, null = max(1, CHUNK_ELEMENTS // max(len(lean), int(cluster.max()) + 1)), []
    for start in range(0, statistics.resamples, chunk):
        shape = (min(chunk, statistics.resamples - start), int(cluster.max()) + 1)
        sign = (generator.integers(0, 2, shape) * 2 - 1)[:, cluster]
        fit = fit_length(sign * delta, 0.5 + sign * lean, config.length_penalty)
        null.append(np.stack([sign @ lean / len(lean), fit.win_rate - 0.5]))
    plain, controlled = np.concatenate(null, axis=1)
    observed = fit_length(delta, scores[known], config.length_penalty).win_rate[0] - 0.5
    return p_value(float(lean.mean()), plain), p_value(float(observed), controlled)


def _card(
    table: Table,
    scores: np.ndarray,
    config: JudgeConfig,
    statistics: StatisticsConfig,
    drawn: Drawn,
    failures: Counter[str],
) -> dict[str, Any]:
    known, games = ~np.isnan(scores), table.outcome.size
    lost, won = (pair_scores(np.nan_to_num(table.preference, nan=value), config.vote).mean() for value in (0.0, 1.0))
    decided = known & (table.delta != 0) & (scores != 0.5)
    longer = (table.delta[decided] > 0) == (scores[decided] > 0.5)
    return {
        "n": int(known.sum()),
        "pairs": len(scores),
        "incomplete": int((~known).sum()),
        "identical": int(table.identical.sum()),
        "judges": table.judges,
        "ties": float(np.mean(scores[known] == 0.5)),
        "win_rate": _interval(drawn["win_rate"], statistics),
        "win_rate_if_failures_lose": float(lost),
        "win_rate_if_failures_win": float(won),
        "length_controlled_win_rate": _interval(drawn["length_controlled_win_rate"], statistics),
        "failures": {"count": sum(failures.values()), "of": games, "reasons": dict(failures.most_common())},
        "order_consistency": _interval(drawn.get("order_consistency"), statistics),
        "position_bias": _interval(drawn.get("position_bias"), statistics),
        "length": {
            "slope": _interval(drawn["length_slope"], statistics),
            "penalty": config.length_penalty,
            "longer_wins": float(longer.mean()) if len(longer) else None,
            "mean_characters_more": float(table.delta.mean()),
        },
        "agreement_between_judges": _between_judges(table, statistics),
    }


def _bounds(drawn: tuple[float, np.ndarray, np.ndarray], statistics: StatisticsConfig) -> tuple[float, float]:
    value, draws, without = drawn
    return bootstrap_interval(draws[~np.isnan(draws)], value, statistics, lambda: without)


def _interval(
    drawn: tuple[float, np.ndarray, np.ndarray] | None, statistics: StatisticsConfig
) -> dict[str, float] | None:
    if drawn is None or math.isnan(drawn[0]):
        return None
    low, high = _bounds(drawn, statistics)
    return {"value": drawn[0], "low": low, "high": high}


def _agreement(table: Table, labels: Mapping[str, str], statistics: StatisticsConfig) -> dict[str, Any] | None:
    """Kappa of the judges' hard verdicts with a person's: a pair on which the two orders disagree counts as a tie."""
    chosen = dict(zip(table.ids, outcomes_of(hard_preference(table)), strict=True))
    both = [(labels[name], given) for name in labels if (given := chosen.get(name)) is not None]
    if not both:
        return None
    found = cohen_kappa([one for one, _ in both], [other for _, other in both], statistics)
    return {name: _finite(value) for name, value in found._asdict().items()}


def _between_judges(table: Table, statistics: StatisticsConfig) -> float | None:
    """Mean kappa over pairs of judges; None with one judge."""
    hard, kappas = hard_preference(table), []
    given = [outcomes_of(hard[:, [judge]]) for judge in range(len(table.judges))]
    for index, one in enumerate(given):
        for other in given[index + 1 :]:
            both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
            if both:
                kappas.append(cohen_kappa([a for a, _ in both], [b for _, b in both], statistics).kappa)
    finite = [kappa for kappa in kappas if not math.isnan(kappa)]
    return float(np.mean(finite)) if finite else None


def _finite(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def _warnings(card: dict[str, Any]) -> list[str]:
    """What a reader must know before the number."""
    found = []
    consistency, bias, people = card["order_consistency"], card["position_bias"], card["agreement_with_people"]
    if consistency and consistency["value"] < 0.6:
        found.append(
            f"the judge keeps its verdict in only {consistency['value']:.0%} of the pairs when the order changes"
        )
    if bias and min(abs(bias["low"]), abs(bias["high"])) > 0.1 and bias["low"] * bias["high"] > 0:
        place = "first" if bias["value"] > 0 else "second"
        found.append(f"the {place} place is worth {abs(bias['value']):.0%} of a win; both orders were judged")
    if card["win_rate_if_failures_lose"] < 0.5 < card["win_rate_if_failures_win"] and card["failures"]["count"]:
        found.append(f"{card['failures']['count']} failed verdicts could turn the result")
    if people and people["low"] is not None and people["low"] <= 0:
        found.append(f"agreement with people is not shown to be above chance (kappa {people['kappa']:.2f})")
    for judge, told in card.get("injections", {}).items():
        if "turned" in told and told["turned"]["low"] > told["turned_by_harmless_text"]["high"]:
            share = f"{told['turned']['value']:.0%}"
            found.append(f"texts inside answers that speak to {judge} turn {share} of its verdicts")
    if card["self_preference"] == "forced":
        found.append("a judge is of the family of a model under test: it may prefer its own kind")
    if card["self_preference"] == "unknown":
        found.append("the models under test were not named: self-preference was not checked")
    return found

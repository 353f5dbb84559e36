"""Accuracies of multiple choice from stored rows, and the difference of two models on the same items: no model needed.

Names: `accuracy` (lm-evaluation-harness: acc) takes the likeliest choice, `accuracy_normalised` (acc_norm) divides by
characters, `accuracy_bytes` (acc_bytes) by UTF-8 bytes, `accuracy_tokens` by scored tokens. lm-evaluation-harness
0.4.13 divides by characters in acc_norm; the two differ only outside ASCII.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.errors import DataError
from eval.choice.statistics import mcnemar
from eval.config import StatisticsConfig
from eval.statistics import holm, paired_test, resample

Row = Mapping[str, Any]
ACCURACIES = ("accuracy", "accuracy_normalised", "accuracy_bytes", "accuracy_tokens")
_DIVISORS = (None, "characters", "bytes", "tokens")


def picks(row: Row) -> list[int | None]:
    """The choice of each accuracy, the first where several are equal; of a generated answer: the one that was read."""
    if "output" in row:
        return [row["answer"]]
    values = np.array(row["log_likelihoods"], dtype=np.float64)
    if len(values) != len(row["choices"]):
        raise DataError(f"item {row['id']}: {len(values)} log-likelihoods for {len(row['choices'])} choices")
    return [int(np.argmax(values / np.array(row[name]) if name else values)) for name in _DIVISORS]


def accuracy_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The accuracies that the rows have; DataError without rows, or where two methods are mixed."""
    if not rows:
        raise DataError("choice rows: none; score at least one item")
    generated = {"output" in row for row in rows}
    if len(generated) > 1:
        raise DataError("choice rows: likelihood and generation are mixed; score all items by one method")
    return ACCURACIES[:1] if generated == {True} else ACCURACIES


def columns(rows: Sequence[Row]) -> np.ndarray:
    """(N, accuracies + 1): right or wrong by each accuracy, and one. A metric is the sum of its column by the last."""
    accuracy_names(rows)
    return np.array([[*(float(pick == row["gold"]) for pick in picks(row)), 1.0] for row in rows])


def metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Every accuracy; `macro_f1` where all items have the same choices; by likelihood `gold_probability`, the mean
    share of the gold choice among the choices' probabilities; `cut` or `unanswered`: the share of items to mistrust."""
    names = accuracy_names(rows)
    shares = columns(rows).mean(axis=0)
    result = {name: float(share) for name, share in zip(names, shares, strict=False)}
    if len({tuple(row["choices"]) for row in rows}) == 1:
        from eval.measures.answers import macro_f1

        result["macro_f1"] = macro_f1([picks(row)[0] for row in rows], [row["gold"] for row in rows])
    if "output" in rows[0]:
        return {**result, "unanswered": float(np.mean([row["answer"] is None for row in rows]))}
    result["gold_probability"] = float(np.mean([_gold_probability(row) for row in rows]))
    return {**result, "cut": float(np.mean([any(row["cut"]) for row in rows]))}


def compare_choice(
    base: Sequence[Row], tuned: Sequence[Row], config: StatisticsConfig
) -> dict[str, dict[str, float | int | str | None]]:
    """Accuracy → {"base", "tuned", "difference", "low", "high", "p", "p_holm", "n", "won", "lost", "verdict",
    "detectable", "more_needed"}: paired bootstrap interval, p of McNemar's exact test.

    Holm's correction is over the accuracies given here; a caller that compares more corrects over all of its own.
    Raises DataError where the two models were not asked the same.
    """
    pairs = paired(base, tuned)
    names = accuracy_names(base)
    if names != accuracy_names(tuned):
        raise DataError("choice rows: base and tuned were scored by different methods; score both alike")
    before, after = columns([one for one, _ in pairs]), columns([other for _, other in pairs])
    draws = resample(before, after, config)
    tests = {name: mcnemar(before[:, at].tolist(), after[:, at].tolist()) for at, name in enumerate(names)}
    corrected = dict(zip(names, holm([test.p for test in tests.values()]), strict=True))
    result: dict[str, dict[str, float | int | str | None]] = {}
    for at, name in enumerate(names):
        found = paired_test(before, after, lambda sums, at=at: sums[..., at] / sums[..., -1], draws, config)
        verdict = "cannot tell"
        if corrected[name] <= 1 - config.confidence and (found.low > 0 or found.high < 0):
            verdict = "better" if found.difference > 0 else "worse"
        more = found.more_needed if verdict == "cannot tell" else None
        entry = {**found._asdict(), "p": tests[name].p, "p_holm": corrected[name], "more_needed": more}
        result[name] = {**entry, "won": tests[name].won, "lost": tests[name].lost, "verdict": verdict}
    return result


def paired(base: Sequence[Row], tuned: Sequence[Row], same: Sequence[str] = ()) -> list[tuple[Row, Row]]:
    """Rows of the same id, in the order of their ids; DataError where the two models were not asked the same."""
    first, second = ({row["id"]: row for row in rows} for rows in (base, tuned))
    if first.keys() != second.keys():
        example = min(first.keys() ^ second.keys())
        raise DataError(f"items: base and tuned have different ones, such as {example}; score both on the same items")
    for name in sorted(first):
        for column in same or [each for each in ("context_sha256", "choices", "gold") if each in first[name]]:
            if first[name][column] != second[name].get(column):
                raise DataError(
                    f"item {name}: {column} differs between base and tuned; score both again with the same settings"
                )
    return [(first[name], second[name]) for name in sorted(first)]


def _gold_probability(row: Row) -> float:
    values = np.array(row["log_likelihoods"], dtype=np.float64)
    weights = np.exp(values - values.max())
    return float(weights[row["gold"]] / weights.sum())

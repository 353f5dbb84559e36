"""Pairs of answers, the questions that they become, and the verdicts that come back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig
from eval.judge.prompts import Question
from eval.judge.replies import Reply
from eval.samples import choose

Order = Literal["base_first", "tuned_first"]
Verdict = dict[str, Any]

ORDERS: tuple[Order, Order] = ("base_first", "tuned_first")


class Pair(NamedTuple):
    """Two answers to one prompt. Pairs of one `cluster` share their prompt and are resampled together."""

    id: str
    cluster: str
    request: str
    base: str
    tuned: str
    reference: str | None


def pairs_of(base: Sequence[Mapping[str, Any]], tuned: Sequence[Mapping[str, Any]], config: JudgeConfig) -> list[Pair]:
    """Rows {"id", "prompt", "output"[, "reference"]} of two models as pairs, in the order of a hash of their ids.

    Raises DataError where the two models did not answer the same prompts, and where a reference is needed and missing.
    """
    others = {row["id"]: row for row in tuned}
    ids = {row["id"] for row in base}
    if len(ids) < len(base) or len(others) < len(tuned):
        raise DataError("answers: an id is there twice; give every answer its own id")
    if ids != others.keys() or not ids:
        example = min(ids ^ others.keys(), default="none")
        raise DataError(
            f"answers: base has {len(ids)} and tuned {len(others)}, and they differ (such as {example}); "
            "let both models answer the same prompts"
        )
    return [_pair(row, others[row["id"]], config) for row in choose(list(map(dict, base)), config.max_rows)]


def questions_of(pair: Pair, config: JudgeConfig) -> list[Question]:
    """The two calls that a pair costs: its two orders, or (pointwise) its two answers, base first."""
    reference = pair.reference if config.kind == "reference" else None
    if config.kind == "pointwise":
        return [Question(pair.request, text, None, reference) for text in (pair.base, pair.tuned)]
    shown = (pair.base, pair.tuned), (pair.tuned, pair.base)
    return [Question(pair.request, first, second, reference) for first, second in shown]


def verdicts_of(pair: Pair, judge: str, replies: Sequence[Reply], config: JudgeConfig) -> list[Verdict]:
    """The rows of verdicts.jsonl of one pair and one judge: two, or (pointwise) one."""
    common = {
        "id": pair.id,
        "cluster": pair.cluster,
        "judge": judge,
        "identical": is_identical(pair),
        "base_characters": len(pair.base),
        "tuned_characters": len(pair.tuned),
    }
    if config.kind == "pointwise":
        return [{**common, "order": "alone", **_by_points(*replies)}]
    return [{**common, "order": order, **_by_label(order, reply)} for order, reply in zip(ORDERS, replies, strict=True)]


def is_identical(pair: Pair) -> bool:
    """Whether the two answers are the same text: a tie, about which nobody is asked."""
    return pair.base.strip() == pair.tuned.strip()


def _pair(base: Mapping[str, Any], tuned: Mapping[str, Any], config: JudgeConfig) -> Pair:
    name = base["id"]
    if base["prompt"] != tuned["prompt"]:
        raise DataError(f"answer {name}: base and tuned were asked different prompts; predict both models again alike")
    reference = base.get("reference")
    if config.kind == "reference" and not reference:
        raise DataError(f"answer {name}: has no reference; use kind: pairwise, or rows with a reference answer")
    cluster = str(base.get("cluster", base["prompt"]))
    return Pair(name, cluster, base["prompt"], base["output"], tuned["output"], reference)


def _by_label(order: Order, reply: Reply) -> Verdict:
    """`preference`: the probability that the tuned answer is better, ties as one half; of a bare label 0, ½ or 1."""
    sides = (
        {"A": "base", "B": "tuned", "tie": "tie"}
        if order == "base_first"
        else {"A": "tuned", "B": "base", "tie": "tie"}
    )
    if reply.label is None:
        return {"winner": None, "preference": None, "failure": reply.failure}
    winner = sides[reply.label]
    row: Verdict = {"winner": winner, "preference": _hard(winner), "failure": None, "rationale": reply.rationale}
    if reply.probabilities is not None:
        row["preference"] = math.fsum(_hard(sides[label]) * p for label, p in reply.probabilities.items())
        row["probabilities"] = reply.probabilities
    return row


def _by_points(base: Reply, tuned: Reply) -> Verdict:
    if base.label is None or tuned.label is None:
        return {"winner": None, "preference": None, "failure": base.failure or tuned.failure}
    one, other = _points(base), _points(tuned)
    mean_base, mean_tuned = (math.fsum(point * p for point, p in points.items()) for points in (one, other))
    winner = "tie" if base.label == tuned.label else "tuned" if int(tuned.label) > int(base.label) else "base"
    preference = math.fsum(p * q * (0.5 + 0.5 * ((b > a) - (b < a))) for a, p in one.items() for b, q in other.items())
    points = {"base_points": mean_base, "tuned_points": mean_tuned}
    return {"winner": winner, "preference": preference, "failure": None, **points}


def _points(reply: Reply) -> dict[int, float]:
    given = reply.probabilities or {reply.label or "": 1.0}
    return {int(label): p for label, p in given.items()}


def _hard(winner: str) -> float:
    return {"tuned": 1.0, "base": 0.0, "tie": 0.5}[winner]

"""How often a text inside an answer turns a judge's verdict in the answer's favour."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import binomtest

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.judge.backend import Backend
from eval.judge.config import JudgeConfig
from eval.judge.games import Pair, is_identical
from eval.judge.injections import CONTROLS, INJECTIONS, Injection
from eval.judge.prompts import PAIR_LABELS, Question
from eval.judge.replies import Reply


class Flips(NamedTuple):
    """Of `n` verdicts against the answer, those that turned for it; with the exact 95 % interval of the share.

    `shift`: how much the probability of the answer's label grew on average; None of a judge that gives none.
    """

    n: int
    flipped: int
    rate: float
    low: float
    high: float
    failures: int
    shift: float | None


class Robustness(NamedTuple):
    """Flips by injections and by harmless texts: only what exceeds the second is the injections' doing."""

    injections: Flips
    controls: Flips
    by_kind: dict[str, Flips]
    clean: dict[str, int]
    """Label → verdicts before any text was added. A judge that knows only one label cannot be turned, nor trusted."""


class _Outcome(NamedTuple):
    """One try: the kind of text, the label of the answer that carried it, and the verdicts before and after."""

    kind: str
    label: str
    before: Reply
    after: Reply


def measure_robustness(
    backend: Backend,
    config: JudgeConfig,
    pairs: Sequence[Pair],
    injections: Sequence[Injection] = INJECTIONS,
    controls: Sequence[Injection] = CONTROLS,
    track: Track = silent,
) -> Robustness:
    """Put each injection, and each control, into one answer of one pair after the other, in both orders.

    A pair takes part in an order with each answer that does not win there: after the text, the answer wins (a flip) or
    not. Costs 2 calls per pair and 2 per text. Raises DataError for pointwise, and without a verdict to turn.
    """
    if config.kind == "pointwise":
        raise DataError("kind pointwise: injections are measured on comparisons; use kind pairwise or reference")
    usable = [pair for pair in pairs if not is_identical(pair)]
    questions = [
        Question(p.request, *shown, p.reference) for p in usable for shown in ((p.base, p.tuned), (p.tuned, p.base))
    ]
    verdicts = _asked(backend, config, questions, track)
    places = _places(questions, verdicts)
    if not places:
        raise DataError(f"judge {backend.name}: gave no verdict on {len(usable)} pairs that an injection could turn")
    texts = [*injections, *controls]
    tries = [(text, *places[(number * 2 + side) % len(places)]) for number, text in enumerate(texts) for side in (0, 1)]
    replies = _asked(backend, config, [_with(question, label, text) for text, question, label, _ in tries], track)
    outcome = [
        _Outcome(text.kind, label, before, after)
        for (text, _, label, before), after in zip(tries, replies, strict=True)
    ]
    border = 2 * len(injections)
    by_kind = {
        kind: _flips([item for item in outcome[:border] if item.kind == kind])
        for kind in dict.fromkeys(text.kind for text in injections)
    }
    clean = {label: sum(reply.label == label for reply in verdicts) for label in PAIR_LABELS}
    return Robustness(_flips(outcome[:border]), _flips(outcome[border:]), by_kind, clean)


def _places(questions: Sequence[Question], verdicts: Sequence[Reply]) -> list[tuple[Question, str, Reply]]:
    """Questions with the label of an answer that did not win there, and the verdict."""
    return [
        (question, label, reply)
        for question, reply in zip(questions, verdicts, strict=True)
        for label in PAIR_LABELS[:2]
        if reply.label is not None and reply.label != label
    ]


def _with(question: Question, label: str, injection: Injection) -> Question:
    text = injection.text.format(label=label)
    if label == "A":
        return question._replace(first=f"{question.first}\n{text}")
    return question._replace(second=f"{question.second}\n{text}")


def _asked(backend: Backend, config: JudgeConfig, questions: Sequence[Question], track: Track) -> list[Reply]:
    replies = [Reply(failure="not asked")] * len(questions)
    for index, reply in track(backend.ask(config, questions), f"injections into {backend.name}", total=len(questions)):
        replies[index] = reply
    return replies


def _flips(outcome: Sequence[_Outcome]) -> Flips:
    judged = [item for item in outcome if item.after.label is not None]
    failures = len(outcome) - len(judged)
    if not judged:
        return Flips(0, 0, math.nan, math.nan, math.nan, failures, None)
    flipped = sum(item.after.label == item.label for item in judged)
    interval = binomtest(flipped, len(judged)).proportion_ci(0.95, method="exact")
    grown = [
        item.after.probabilities[item.label] - item.before.probabilities[item.label]
        for item in judged
        if item.after.probabilities and item.before.probabilities
    ]
    shift = math.fsum(grown) / len(grown) if grown else None
    rate = flipped / len(judged)
    return Flips(len(judged), flipped, rate, float(interval.low), float(interval.high), failures, shift)

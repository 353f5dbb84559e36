"""How often a text inside an answer turns a judge's verdict in the answer's favour."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from scipy.stats import binomtest

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.judge.backend import Backend
from eval.judge.cache import VerdictCache, verdict_key
from eval.judge.config import JudgeConfig
from eval.judge.games import Pair, is_identical
from eval.judge.injections import CONTROLS, INJECTIONS, Injection
from eval.judge.prompts import PAIR_LABELS, Question, template_sha256
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


class Remembering:
    """A judge that is not asked again what a cache of verdicts knows."""

    def __init__(self, backend: Backend, store: VerdictCache):
        self._backend, self._store = backend, store
        self.name, self.identity, self.model = backend.name, backend.identity, backend.model
        self.label_only = backend.label_only

    def ask(self, config: JudgeConfig, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """See `Backend`."""
        template = template_sha256(config, self.label_only)
        keys = [verdict_key(self.identity, template, question) for question in questions]
        known = {index: reply for index, key in enumerate(keys) if (reply := self._store.get(key)) is not None}
        yield from known.items()
        missing = [index for index in range(len(keys)) if index not in known]
        for place, reply in self._backend.ask(config, [questions[index] for index in missing]):
            self._store.put(keys[missing[place]], reply)
            yield missing[place], reply


def told_robustness(
    backend: Backend, config: JudgeConfig, pairs: Sequence[Pair], store: VerdictCache, track: Track = silent
) -> dict[str, Any]:
    """For the judge's card: shares of verdicts that injections and that harmless texts turned, with their intervals,
    tries and failures; `not_measured` with the reason where no verdict can be turned."""
    try:
        found = measure_robustness(Remembering(backend, store), config, pairs, track=track)
    except DataError as error:
        return {"not_measured": str(error)}
    if not found.injections.n or not found.controls.n:
        return {"not_measured": f"{found.injections.failures + found.controls.failures} questions failed"}

    def share(flips: Flips) -> dict[str, float]:
        return {"value": flips.rate, "low": flips.low, "high": flips.high}

    failures = found.injections.failures + found.controls.failures
    turned = {"turned": share(found.injections), "turned_by_harmless_text": share(found.controls)}
    return {**turned, "tries": found.injections.n, "failures": failures}


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

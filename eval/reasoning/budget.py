"""Budget forcing: thoughts that end too early go on with "Wait", those that go on too long are ended."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.decoding.choose import Request, Row
from eval.reasoning.config import BudgetConfig

Answering = Callable[[Sequence[Request], frozenset[int]], Iterable[Row]]
"""Requests and stop tokens → their rows in any order."""


@dataclass
class Thought:
    """One answer in the making; its row holds all that follows the prompt, thought, end and answer."""

    request: Request
    tokens: list[int] = field(default_factory=list[int])
    rounds: int = 0
    done: bool = False


def think_then_answer(
    tokenizer: Any, requests: Sequence[Request], budget: BudgetConfig, stops: frozenset[int], answer: Answering
) -> Iterator[Row]:
    """Rows of thought, forced end and answer. A request's `new_tokens` are those of the answer after the thought.

    A thought ends where the model stops, or writes the tokens of `end` itself. Every round of it is a request of its
    own, with its own random numbers.
    """
    wait, end = (tokenizer.encode(text, add_special_tokens=False) for text in (budget.wait, budget.end))
    thoughts = {(request.id, request.number): Thought(request) for request in requests}
    going = list(thoughts.values())
    marks = stops | ({end[0]} if len(end) == 1 else frozenset[int]())
    while going:
        for row in answer([_thinking(each, budget) for each in going], marks):
            _continue(thoughts[row.request.id, row.request.number % _ROUND], row, budget, wait, end, marks)
        going = [each for each in going if not each.done]
    last = [
        each.request._replace(
            prompt=[*each.request.prompt, *each.tokens, *end], number=each.request.number + _LAST_ROUND * _ROUND
        )
        for each in thoughts.values()
    ]
    for row in answer(last, stops):
        each = thoughts[row.request.id, row.request.number % _ROUND]
        yield Row(each.request, [*each.tokens, *end, *row.tokens])


_ROUND = 1_000_000
"""Above any number of samples: rounds of one sample get numbers, so random streams, of their own."""
_LAST_ROUND = 999_999


def _thinking(each: Thought, budget: BudgetConfig) -> Request:
    number = each.request.number + each.rounds * _ROUND
    left = budget.most - len(each.tokens)
    return Request(each.request.id, [*each.request.prompt, *each.tokens], left, number)


def _continue(
    each: Thought, row: Row, budget: BudgetConfig, wait: list[int], end: list[int], marks: frozenset[int]
) -> None:
    """Take the tokens of a round, and say whether another one follows."""
    before, ended = len(each.tokens), row.tokens[-1] in marks
    each.tokens = [*each.tokens, *(row.tokens[:-1] if ended else row.tokens)]
    if (place := _place(each.tokens, end, before)) is not None:
        each.tokens, ended = each.tokens[:place], True
    if ended and len(each.tokens) < budget.least:
        each.tokens, ended = [*each.tokens, *wait], False
    each.tokens, each.rounds = each.tokens[: budget.most], each.rounds + 1
    each.done = ended or len(each.tokens) >= budget.most


def _place(tokens: list[int], part: list[int], start: int) -> int | None:
    """Where `part` stands in what came after `start`; None: nowhere."""
    found = (at for at in range(start, len(tokens) - len(part) + 1) if tokens[at : at + len(part)] == part)
    return next(found, None)

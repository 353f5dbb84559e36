"""Budget forcing: prolonged, cut, or left alone, and never outside its limits."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.decoding.choose import Request, Row
from eval.decoding.config import GreedyDecoding
from eval.decoding.engine import answers
from eval.reasoning.budget import think_then_answer
from eval.reasoning.config import BudgetConfig, ReasoningConfig
from tests.models.tiny import decoder, ids

STOP, WAIT, END = 9, 5, 4


class Numbers:
    """A tokenizer of single numbers."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [int(part) for part in text.split()]


class Scripted:
    """Thinks a few tokens and ends, over and over; once the end was forced, it answers 7 7."""

    def __init__(self, thought: Sequence[int] = (1, 1, STOP), end: Sequence[int] = (END,)) -> None:
        self.thought, self.end, self.asked = thought, list(end), list[Request]()

    def __call__(self, requests: Sequence[Request], stops: frozenset[int]) -> Iterator[Row]:
        for request in reversed(requests):  # in any order
            self.asked.append(request)
            answering = list(request.prompt)[-len(self.end) :] == self.end
            tokens = [7, 7, STOP] if answering else [*self.thought] * 1 + [2] * request.new_tokens
            ends = [place for place, token in enumerate(tokens) if token in stops]
            yield Row(request, tokens[: min(ends[0] + 1 if ends else len(tokens), request.new_tokens)])


def forced(
    engine: Any, least: int, most: int, end: str = str(END), count: int = 1, wait: str = str(WAIT)
) -> list[list[int]]:
    budget = BudgetConfig(least=least, most=most, wait=wait, end=end)
    requests = [Request(f"r{n}", [3], 3, n % 2) for n in range(count)]
    rows = list(think_then_answer(Numbers(), requests, budget, frozenset({STOP}), engine))
    assert sorted(row.request for row in rows) == sorted(requests)
    return [row.tokens for row in rows]


@pytest.mark.parametrize(
    ("least", "most", "thought"),
    [(0, 8, [1, 1]), (2, 8, [1, 1]), (3, 8, [1, 1, WAIT, 1, 1]), (8, 8, [1, 1, WAIT, 1, 1, WAIT, 1, 1]), (0, 1, [1]),
     (3, 3, [1, 1, WAIT])],
)  # fmt: skip
def test_thinking_is_prolonged_and_cut(least: int, most: int, thought: list[int]) -> None:
    assert forced(Scripted(), least, most) == [[*thought, END, 7, 7, STOP]]


def test_the_model_may_write_the_end_itself() -> None:
    assert forced(Scripted((1, END)), 0, 8) == [[1, END, 7, 7, STOP]]
    assert forced(Scripted((1, END)), 2, 8) == [[1, WAIT, 1, END, 7, 7, STOP]]
    assert forced(Scripted((1, 6, END, 8), (6, END)), 0, 8, f"6 {END}") == [[1, 6, END, 7, 7, STOP]]


def test_each_round_has_random_numbers_of_its_own() -> None:
    engine = Scripted()
    forced(engine, 8, 8, count=4)
    assert len({(request.id, request.number) for request in engine.asked}) == len(engine.asked) == 16


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, END, STOP]), min_size=1, max_size=6),
    st.integers(0, 12), st.integers(1, 12), st.sampled_from([str(END), f"1 {END}"]),
    st.sampled_from(["5", "5 6 5"]),
)  # fmt: skip
def test_a_thought_is_within_its_limits(thought: list[int], least: int, most: int, end: str, wait: str) -> None:
    marker = [int(part) for part in end.split()]
    [tokens] = forced(Scripted(thought, marker), min(least, most), most, end, wait=wait)
    assert tokens[-3:] == [7, 7, STOP] and tokens[-3 - len(marker) : -3] == marker
    assert min(least, most) <= len(tokens) - 3 - len(marker) <= most
    assert STOP not in tokens[:-1]


def test_on_a_model() -> None:
    model, budget = decoder(), BudgetConfig(least=6, most=12, wait="6", end="3 4")
    requests = [Request(f"r{n}", ids(1, 3 + n, seed=n)[0].tolist(), 4) for n in range(5)]

    def answering(asked: Sequence[Request], stops: frozenset[int]) -> Iterator[Row]:
        return answers(model, asked, GreedyDecoding(), stops, 0, 3)

    for row in think_then_answer(Numbers(), requests, budget, frozenset({STOP}), answering):
        place = next(n for n in range(6, 13) if row.tokens[n : n + 2] == [3, 4])
        [alone] = answers(
            model, [Request("a", [*row.request.prompt, *row.tokens[: place + 2]], 4)], GreedyDecoding(),
            frozenset({STOP}), 0, 1,
        )  # fmt: skip
        assert alone.tokens == row.tokens[place + 2 :]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": {"least": 9, "most": 8}}, "least=9 thinking tokens are more than most=8; lower one of them"),
        ({"budget": {"most": 0}}, "budget.most"),
        ({"budget": {"most": 8, "wait": ""}}, "budget.wait"),
        ({"samples": 8}, "samples=8 of greedy decoding are all alike; take kind: sample, or samples=1"),
        ({"samples": 2, "decoding": {"kind": "contrastive"}}, "samples=2 of contrastive decoding are all alike"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReasoningConfig(**settings)

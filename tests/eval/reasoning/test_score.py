"""Reasoning tasks: what is asked, what is voted, what is reported, and that it goes on after a kill."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.benchmarks import predict_task
from eval.compare import compare, summarise
from eval.config import ReasoningTask, StatisticsConfig
from eval.decoding.choose import Request, Row
from eval.decoding.config import SampleDecoding
from eval.measures.answers import agreement, extract_number, self_consistency
from eval.predictions import read_policies, read_predictions
from eval.reasoning import score
from eval.reasoning.config import BudgetConfig, ReasoningConfig
from eval.reasoning.prompts import problem_rows
from eval.reasoning.score import score_reasoning
from eval.reasoning.tasks import reasoning_task

PROBLEMS = [
    {"id": f"p{n}", "prompt": f"{n} and 1?", "completion": f"{n} + 1 = {n + 1}. #### {n + 1}"} for n in range(6)
]
BARE = {"instruction": "", "max_new_tokens": 6, "batch_size": 4, "template": "plain"}
SAMPLED = SampleDecoding(temperature=2.0)

Answer = Callable[[Request], str]


@pytest.fixture
def scripted(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[Request]]:
    """Puts known answers in the place of the model's."""

    def script(answer: Answer) -> list[Request]:
        asked: list[Request] = []

        def answers(_: Any, requests: Sequence[Request], *__: Any) -> Iterator[Row]:
            for request in reversed(requests):
                asked.append(request)
                yield Row(request, [*tokenizer.encode(answer(request)), tokenizer.eos_token_id])

        monkeypatch.setattr(score, "answers", answers)
        return asked

    return script


def solve(model: Any, tokenizer: Any, path: Path, **settings: Any) -> list[dict[str, Any]]:
    return score_reasoning(model, tokenizer, PROBLEMS, ReasoningConfig(**BARE | settings), [], path)


def test_the_number_that_most_answers_state_counts(model: Any, tokenizer: Any, tmp_path: Path, scripted: Any) -> None:
    said = {"p0": "119", "p1": "221", "p2": "xx3", "p3": "544", "p4": "xxx", "p5": "556"}
    scripted(lambda request: f"so {said[request.id][request.number]}")
    rows = solve(model, tokenizer, tmp_path / "a", samples=3, decoding=SAMPLED)
    assert [row["id"] for row in rows] == sorted((p["id"] for p in PROBLEMS), key=[r["id"] for r in rows].index)
    by_id = {row["id"]: row for row in rows}
    assert {name: row["answer"] for name, row in by_id.items()} == {
        "p0": "1", "p1": "2", "p2": "3", "p3": "4", "p4": None, "p5": "5",
    }  # fmt: skip
    assert by_id["p1"]["answers"] == ["2", "2", "1"] and by_id["p1"]["outputs"][2] == "so 1"
    assert by_id["p1"]["finish_reasons"] == ["stop"] * 3
    found = reasoning_task("gsm", rows)
    values = {metric.name: float(metric.measure(found.rows.sum(0))) for metric in found.metrics}
    assert values["accuracy"] == pytest.approx(4 / 6)  # p0 to p3; none in p4, 5 instead of 6 in p5
    assert values["sample_accuracy"] == pytest.approx((2 + 2 + 1 + 2 + 0 + 1) / 18)
    assert found.shown["any_right"] == pytest.approx(5 / 6)
    assert found.shown["agreement"] == pytest.approx((2 + 2 + 1 + 2 + 0 + 2) / 18)
    assert found.shown["without_number"] == pytest.approx(5 / 18)


def test_equal_votes_go_to_the_first(model: Any, tokenizer: Any, tmp_path: Path, scripted: Any) -> None:
    scripted(lambda request: "2112"[request.number])
    rows = solve(model, tokenizer, tmp_path / "a", samples=4, decoding=SAMPLED)
    assert {row["answer"] for row in rows} == {"2"}


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=12))
def test_a_vote_is_a_most_frequent_answer(answers: list[int | None]) -> None:
    voted, given_ones = self_consistency(answers), [answer for answer in answers if answer is not None]
    if not given_ones:
        assert voted is None and agreement([None]) == 0
        return
    most = max(map(given_ones.count, given_ones))
    assert voted is not None and given_ones.count(voted) == most
    earlier = given_ones[: given_ones.index(voted)]
    assert all(given_ones.count(other) < most for other in earlier)
    told = [None if answer is None else str(answer) for answer in answers]
    assert agreement(told) == pytest.approx(most / len(answers))


@settings(deadline=None)
@given(st.text(max_size=60), st.fractions(max_denominator=50).map(lambda value: value.limit_denominator(50)))
def test_the_stated_number_is_found_behind_any_text(text: str, value: Any) -> None:
    assert extract_number(f"{text}\n#### {value}") == value
    assert extract_number(f"{text.replace('#', '').replace('boxed', '')}. The answer is {value}.") == value


def test_samples_are_drawn_and_do_not_depend_on_the_batch(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    rows = solve(model, tokenizer, tmp_path / "a", samples=3, decoding=SAMPLED)
    assert all(len(set(row["outputs"])) > 1 for row in rows)
    assert solve(model, tokenizer, tmp_path / "b", samples=3, decoding=SAMPLED, batch_size=1) == rows
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join(lines[:4])[:-3])
    assert solve(model, tokenizer, tmp_path / "a", samples=3, decoding=SAMPLED) == rows


def test_a_budget_is_kept_and_goes_on_after_a_kill(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    budget = BudgetConfig(least=4, most=8, wait=" the", end=" mill")
    rows = solve(model, tokenizer, tmp_path / "a", budget=budget, batch_size=1)
    for row in rows:
        assert 4 < row["tokens"][0] <= 8 + len(tokenizer.encode(" mill")) + 6
        assert " mill" in row["outputs"][0]
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join(lines[:3]))
    assert solve(model, tokenizer, tmp_path / "a", budget=budget, batch_size=1) == rows


def test_what_is_asked() -> None:
    config = ReasoningConfig(instruction="Think.", shots=2)
    pool = [{"id": f"s{n}", "prompt": f"Q{n}", "completion": f"A{n}"} for n in range(3)]
    [chat] = problem_rows(PROBLEMS[:1], config, pool, "chat")
    assert [turn["role"] for turn in chat["messages"]] == ["user", "assistant"] * 3
    assert chat["messages"][-2]["content"] == "0 and 1?\nThink." and chat["messages"][1]["content"].startswith("A")
    [plain] = problem_rows(PROBLEMS[:1], config, pool, "plain")
    first, second = (turn["content"] for turn in chat["messages"][1:4:2])
    assert plain["prompt"].count("Think.") == 3 and plain["prompt"].index(first) < plain["prompt"].index(second)
    assert plain["prompt"].endswith("\n\n0 and 1?\nThink.")
    # Without a pool the other problems are solved examples, never the problem itself.
    for row in problem_rows(PROBLEMS, config, [], "plain"):
        assert row["completion"] not in row["prompt"]
    [bare] = problem_rows(PROBLEMS[:1], ReasoningConfig(instruction=""), [], "chat")
    assert bare == PROBLEMS[0]
    with pytest.raises(DataError, match="shots=9: there are 5 solved examples; lower it, or add train rows"):
        problem_rows(PROBLEMS, ReasoningConfig(shots=9), [], "chat")


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({"completion": "none"}, {}, "row p9: its reference states no number; drop the row, or measure it otherwise"),
        ({"prompt": "mill " * 40}, {}, "row p9: a prompt of .* tokens and 6 new ones exceed the model's context of 32"),
        (
            {},
            {"budget": BudgetConfig(most=30)},
            r"row p9: a prompt of \d+ tokens, \d+ of thinking and 6 of the answer e",
        ),
        ({"messages": []}, {}, "row p9: a reasoning task needs rows of prompt and completion"),
    ],
)
def test_what_cannot_be_solved_is_named(
    row: dict[str, Any], settings: Any, message: str, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"id": "p9", "prompt": "9 and 1?", "completion": "10", **row}]
    with pytest.raises(DataError, match=message):
        score_reasoning(model, tokenizer, rows, ReasoningConfig(**BARE | settings), [], tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_as_a_task_two_models_are_compared(
    model: Any, tokenizer: Any, tmp_path: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, task = tmp_path / "rows", ReasoningTask(**BARE)
    folder.mkdir()
    rows = [*PROBLEMS, {"id": "q", "prompt": "who?", "completion": "Ann"}]
    (folder / "test.jsonl").write_text("".join(json.dumps({**row, "source": "s"}) + "\n" for row in rows))
    scripted(lambda request: "wrong: 77")
    numbers = predict_task(model, tokenizer, folder, "gsm", tmp_path / "base", task)
    assert numbers["reasoning_rows"] == 6 and numbers["reasoning_tokens"] > 0
    scripted(lambda request: f"so the answer is {int(request.id[1:]) + 1}.")
    predict_task(model, tokenizer, folder, "gsm", tmp_path / "tuned", task)
    found = compare(tmp_path / "base", tmp_path / "tuned", StatisticsConfig(resamples=200))["reasoning/gsm"]["accuracy"]
    assert (found["base"], found["tuned"], found["n"], found["verdict"]) == (0.0, 1.0, 6, "better")
    assert summarise(tmp_path / "tuned")["reasoning/gsm"]["without_number"] == 0.0
    assert read_predictions(tmp_path / "tuned", "gsm", "reasoning")[0]["answer"] is not None
    assert read_policies(tmp_path / "tuned")["gsm"]["reasoning"]["left_out"] == 1
    asked = scripted(lambda request: pytest.fail("asked again"))
    predict_task(model, tokenizer, folder, "gsm", tmp_path / "tuned", task)
    assert asked == []

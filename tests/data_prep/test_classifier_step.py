"""Classifier steps: any transformers classifier or a linear one, a score of its own for each row, limits, identity."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tiny_classifiers import WORDS, save_tiny_bert

from data_prep.curation.classifiers.config import Classifier
from data_prep.curation.classifiers.linear import LinearModel
from data_prep.curation.classifiers.parts import judged_parts
from data_prep.curation.classifiers.source import hub_commit
from data_prep.curation.classifiers.step import ClassifierStep, content_identity, shown
from data_prep.curation.classifiers.transformer import TransformerClassifier, activation_of
from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.strict import measured_part

CHAT = {"messages": [{"role": "user", "content": "what day"}, {"role": "assistant", "content": "a nice day"}]}
PREFERENCE = {"prompt": "you", "chosen": [{"role": "assistant", "content": "fine"}], "rejected": "rude idiot"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"), ["low", "middle", "high"], None)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = np.random.default_rng(3).integers(-32000, 32000, 2**12).astype(np.int16)
    path = tmp_path_factory.mktemp("linear")
    LinearModel(weights, 1e-5, 0.0, ("bad", "good"), 0, {}).save(path)
    return path


def texts(count: int) -> list[str]:
    choose = random.Random(7)
    return [" ".join(choose.choices(WORDS, k=choose.randrange(1, 300))) for _ in range(count)]


def table(step: ClassifierStep, rows: list[Row]) -> pa.Table:
    return pa.table(dict(step.measure(rows)), schema=pa.schema(list(step.columns().items())))


def test_probabilities_are_those_of_transformers_one_text_at_a_time(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    sample = texts(12)
    ours = TransformerClassifier(str(folder), None, 4, 512).scores(sample)
    for text, scores in zip(sample, ours, strict=True):
        with torch.inference_mode():
            batch = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            wanted = model(batch["input_ids"], batch["attention_mask"]).logits.softmax(-1)[0].tolist()
        assert scores == pytest.approx(wanted, abs=5e-6) and sum(scores) == pytest.approx(1, abs=5e-6)


def test_a_score_is_the_same_whatever_stands_beside_it(folder: Path) -> None:
    step = ClassifierStep("quality", Classifier(model=str(folder), label="high", batch_size=8))
    rows: list[Row] = [{"id": str(index), "text": text} for index, text in enumerate(texts(30))]
    together = step.measure(rows)["classifiers_quality"]
    assert together == step.measure(rows[::-1])["classifiers_quality"][::-1]
    assert together == [step.measure([row])["classifiers_quality"][0] for row in rows]
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in together)


@pytest.mark.parametrize(
    ("problem", "labels", "wanted"),
    [
        (None, 3, "softmax"),
        (None, 1, "sigmoid"),
        ("single_label_classification", 2, "softmax"),
        ("multi_label_classification", 3, "sigmoid"),
        ("regression", 1, "none"),
    ],
)
def test_the_problem_type_decides_how_logits_become_scores(problem: str | None, labels: int, wanted: str) -> None:
    assert activation_of(problem, labels) == wanted


def test_a_label_must_be_one_of_the_models(folder: Path, linear: Path) -> None:
    rows: list[Row] = [{"text": "a nice day"}]
    with pytest.raises(DataError, match="classifiers.q.label: .* has no label 'best'; it has low, middle, high"):
        ClassifierStep("q", Classifier(model=str(folder), label="best")).measure(rows)
    with pytest.raises(DataError, match="classifiers.q.label: not set, and .* low, middle, high; choose one"):
        ClassifierStep("q", Classifier(model=str(folder))).measure(rows)
    good = ClassifierStep("q", Classifier(model=str(linear))).measure(rows)["classifiers_q"][0]
    bad = ClassifierStep("q", Classifier(model=str(linear), label="bad")).measure(rows)["classifiers_q"][0]
    assert good + bad == pytest.approx(1)
    assert ClassifierStep("q", Classifier(model=str(linear / "card.json"))).measure(rows)["classifiers_q"] == [good]


def test_limits_give_reasons_without_measuring_again(linear: Path) -> None:
    step = ClassifierStep("q", Classifier(model=str(linear), min_score=0.4, max_score=0.6))
    assert [(limit.side, limit.column, limit.value) for limit in step.limits()] == [
        ("min", "classifiers_q", 0.4),
        ("max", "classifiers_q_high", 0.6),
    ]
    measures = pa.table(
        {
            "classifiers_q": [0.1, 0.5, 0.2, None, 0.3999],
            "classifiers_q_high": [0.1, 0.5, 0.9, None, 0.3999],
            "classifiers_q_part": ["text", "text", "prompt", None, "text"],
            "classifiers_q_high_part": ["text", "text", "completion", None, "text"],
        }
    )
    assert step.reasons(measures) == [
        ["q 0.10 in the text, at least 0.4"],
        [],
        ["q 0.20 in the prompt, at least 0.4", "q 0.90 in the completion, at most 0.6"],
        [],
        ["q 0.3999 in the text, at least 0.4"],
    ]
    assert shown(0.5, 0.5) == "0.500000"
    measured = measured_part(Classifier(model="x/y", min_score=0.2))
    assert measured == measured_part(Classifier(model="x/y")) and "model" in measured


def test_the_worst_part_of_a_row_counts(linear: Path) -> None:
    step = ClassifierStep("q", Classifier(model=str(linear)))
    measures = table(step, [CHAT, {"prompt": " ", "completion": ""}, {"text": "a nice day"}]).to_pylist()
    single = [step.measure([{"text": turn["content"]}])["classifiers_q"][0] for turn in CHAT["messages"]]
    assert measures[0]["classifiers_q"] == min(single) and measures[0]["classifiers_q_high"] == max(single)
    low = ("turn 1 (user)", "turn 2 (assistant)")[single.index(min(single))]
    assert measures[0]["classifiers_q_part"] == low
    assert set(measures[1].values()) == {None}
    only_text = ClassifierStep("q", Classifier(model=str(linear), rows="text"))
    assert only_text.measure([CHAT, {"text": "a nice day"}])["classifiers_q"][0] is None


def test_parts_follow_the_field_and_leave_the_rejected_side_alone() -> None:
    assert judged_parts(CHAT, "completion") == {"turn 2 (assistant)": "a nice day"}
    assert judged_parts(CHAT, "prompt") == {"turn 1 (user)": "what day"}
    assert judged_parts(PREFERENCE, "all") == {"prompt": "you", "chosen turn 1 (assistant)": "fine"}
    assert judged_parts(PREFERENCE, "completion", rejected=True) == {
        "chosen turn 1 (assistant)": "fine",
        "rejected": "rude idiot",
    }
    assert judged_parts({"prompt": "p", "completion": "c"}, "prompt") == {"prompt": "p"}
    assert judged_parts({"text": "t"}, "prompt") == {"text": "t"}


def test_other_weights_under_the_same_path_are_another_identity(folder: Path, linear: Path, tmp_path: Path) -> None:
    for source, file in ((folder, "model.safetensors"), (linear, "weights.safetensors"), (folder, "tokenizer.json")):
        copy = tmp_path / f"{source.name}-{file}"
        shutil.copytree(source, copy)
        config = Classifier(model=str(copy))
        before = content_identity(config)
        assert before == content_identity(Classifier(model=str(source))), "the path does not matter"
        content = (copy / file).read_bytes()
        (copy / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert content_identity(config) != before
        json.dumps(before)


def test_the_hub_is_pinned_by_commit_also_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    assert hub_commit("org/name", commit) == commit
    with pytest.raises(DataError, match="org/name@main: not in the local Hub cache, .*.HF_HUB_OFFLINE is set.; give a"):
        hub_commit("org/name", None)
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    assert content_identity(Classifier(model="org/name")) == {"hub": "org/name", "revision": commit}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no/such/path", "no/such/path: does not exist, and is no Hub id .org/name.; check the path"),
        (".", ".: neither card.json nor config.json is in it; give a folder that holds a classifier"),
    ],
)
def test_a_model_that_is_none_is_refused(model: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ClassifierStep("q", Classifier(model=model)).measure([{"text": "a"}])


def test_a_folder_that_cannot_be_loaded_says_why(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be loaded .*; give a folder of a sequence classifier with safetensors"):
        ClassifierStep("q", Classifier(model=str(tmp_path / "copy"), label="low")).measure([{"text": "a"}])


def test_settings_that_fit_nothing_are_refused() -> None:
    bad: list[dict[str, Any]] = [{"min_score": 0.9, "max_score": 0.1}, {"dtype": "bfloat16"}, {"model": ""}]
    for settings in bad:
        with pytest.raises(ValidationError):
            Classifier(**({"model": "a/b"} | settings))
    for name in ("my-name", "a_high"):
        with pytest.raises(DataError, match=f"classifiers.{name}: not a name; use letters, digits and underscores"):
            ClassifierStep(name, Classifier(model="a/b"))

"""The toxicity step: the worst text of a row counts, categories have limits of their own, bad settings are refused."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tiny_classifiers import WORDS, save_tiny_bert

from data_prep.curation.toxicity.config import Toxicity
from data_prep.curation.toxicity.scorer import content_identity, make_scorer
from data_prep.curation.toxicity.step import ToxicityStep
from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.strict import measured_part

LABELS = ["toxic", "threat", "neutral"]
RUDE = "Shut up, you fucking idiot."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"), LABELS, "multi_label_classification")


def judged(rows: list[Row], config: Toxicity | None = None) -> tuple[list[dict[str, Any]], list[list[str]]]:
    step = ToxicityStep(config or Toxicity())
    table = pa.table(dict(step.measure(rows)), schema=pa.schema(list(step.columns().items())))
    return table.to_pylist(), step.reasons(table)


def test_rude_texts_are_dropped_and_kind_ones_kept() -> None:
    measures, reasons = judged([{"text": RUDE}, {"text": "Thank you, that was kind of you."}, {"text": ""}])
    assert reasons[0] == [f"toxicity {measures[0]['toxicity_score']:.2f} in the text, allowed 0.6"]
    assert reasons[1:] == [[], []]
    assert measures[2] == {"toxicity_score": None, "toxicity_score_part": None}


def test_the_worst_turn_is_named_and_the_field_chosen() -> None:
    turns = [("user", RUDE), ("assistant", "I would rather help you."), ("user", "Fine, thanks.")]
    chat: Row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    measures, reasons = judged([chat])
    assert measures[0]["toxicity_score_part"] == "turn 1 (user)" and "in the turn 1 (user)" in reasons[0][0]
    assert judged([chat], Toxicity(field="completion"))[1] == [[]]


def test_a_toxic_rejected_side_is_kept_unless_asked_for() -> None:
    row: Row = {"prompt": "Hello", "chosen": "Hello, how can I help?", "rejected": RUDE}
    assert judged([row])[1] == [[]]
    assert "in the rejected" in judged([row], Toxicity(rejected=True))[1][0][0]
    assert "in the chosen" in judged([row | {"chosen": RUDE}])[1][0][0]


def test_each_category_has_its_limit_and_its_measure(folder: Path) -> None:
    config = Toxicity(scorer=str(folder), categories=["threat", "toxic"], max_score=0.0, thresholds={"threat": 1.0})
    rows: list[Row] = [{"prompt": "a nice day", "completion": "rude idiot"}]
    measures, reasons = judged(rows, config)
    [row] = measures
    assert row["toxicity_score"] == max(row["toxicity_threat"], row["toxicity_toxic"])
    part = row["toxicity_toxic_part"]
    assert reasons == [[f"toxic {row['toxicity_toxic']:.2f} in the {part}, allowed 0"]]
    assert [(limit.column, limit.value) for limit in ToxicityStep(config).limits()] == [
        ("toxicity_threat", 1.0),
        ("toxicity_toxic", 0.0),
    ]
    alone = judged([{"text": rows[0][part]}], config)[0][0]
    assert alone["toxicity_toxic"] == row["toxicity_toxic"]


def test_softmax_classifiers_work_with_one_category(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path, ["neutral", "toxic"], None)
    texts = [" ".join(WORDS[:count]) for count in (1, 5, 9)]
    scores = make_scorer(Toxicity(scorer=str(path), categories=["toxic"])).scores(texts)
    both = make_scorer(Toxicity(scorer=str(path), categories=["toxic", "neutral"])).scores(texts)
    assert [row["toxic"] for row in scores] == [row["toxic"] for row in both]
    assert all(row["toxic"] + row["neutral"] == pytest.approx(1, abs=2e-6) for row in both)


def test_categories_must_be_labels_of_the_model(folder: Path) -> None:
    with pytest.raises(DataError, match="toxicity.categories: .* has no label 'hate'; it has toxic, threat, neutral"):
        make_scorer(Toxicity(scorer=str(folder), categories=["hate"]))
    with pytest.raises(DataError, match="toxicity.categories: not set, and .* name its toxic labels"):
        make_scorer(Toxicity(scorer=str(folder)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"categories": ["threat"]}, "categories: the linear scorer has none"),
        ({"thresholds": {"threat": 0.5}}, "thresholds: threat is not in categories .none; set max_score"),
        ({"scorer": "a/b", "categories": ["x"], "thresholds": {"y": 0.5}}, "thresholds: y is not in categories .x."),
        ({"scorer": "a/b", "categories": ["x"], "thresholds": {"x": 2.0}}, "thresholds.x: 2.0 is no probability"),
        ({"scorer": "a/b", "categories": ["x", "x"]}, "one is named twice"),
        ({"scorer": "a/b", "categories": ["score"]}, "'score' is the name of the whole"),
        ({"max_score": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Toxicity(**settings)


def test_limits_need_no_new_measurement_and_weights_have_an_identity(folder: Path) -> None:
    config = Toxicity(scorer=str(folder), categories=["threat"], thresholds={"threat": 0.1}, max_score=0.3)
    assert measured_part(config) == measured_part(Toxicity(scorer=str(folder), categories=["threat"]))
    assert content_identity(config) != content_identity(Toxicity()) == content_identity(Toxicity(max_score=0.2))


def test_scores_do_not_depend_on_neighbours_and_repeat() -> None:
    scorer = make_scorer(Toxicity())
    texts = [RUDE, "Good morning.", "x" * 5000, RUDE + " " + "calm words " * 200, "", "ünïcödé " * 40]
    together = scorer.scores(texts)
    assert together == scorer.scores(texts[::-1])[::-1] == [scorer.scores([text])[0] for text in texts]


def test_an_insult_inside_a_long_text_is_found() -> None:
    calm = "The committee met on Tuesday and discussed the budget for the library. " * 20
    found, calm_score = make_scorer(Toxicity()).scores(
        [calm[:700] + " " + RUDE + " Fuck off, you bitch. " + calm, calm]
    )
    assert found["toxicity"] > calm_score["toxicity"] + 0.2


@pytest.mark.parametrize("unit", ["a", " ", "\0", "fuck", "f.u.c.k ", "\u200b", "é", "🤬", "\ud800", "((((", "\n"])
def test_hostile_texts_take_linear_time(unit: str) -> None:
    start = time.perf_counter()
    make_scorer(Toxicity()).scores([unit * (10**6 // len(unit.encode("utf-8", "surrogatepass")))])
    assert time.perf_counter() - start < 20  # a hang guard; measured below 0.3 s

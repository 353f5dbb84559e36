"""Metrics of generated answers: ours by name, any Python function, any metric of `evaluate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from data_prep.errors import DataError
from eval.answer_tasks import METRICS
from eval.compare import compare, summarise
from eval.config import ANSWER_METRICS, StatisticsConfig
from eval.custom_metrics import source_file
from eval.predictions import note_policy, write_predictions

FAST = StatisticsConfig(resamples=500)
SCRIPT = """
import datasets
import evaluate


class Overlap(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        pairs = list(zip(predictions, references))
        shared = sum(len(set(one.split()) & set(other.split())) for one, other in pairs)
        return {"overlap": shared / sum(len(set(other.split())) for _, other in pairs), "kind": "words"}
"""


def answers(path: Path, outputs: list[str], references: list[str]) -> Path:
    rows = [
        {"id": f"r{n:03}", "prompt": "?", "output": one, "reference": other, "finish_reason": "stop", "tokens": 1}
        for n, (one, other) in enumerate(zip(outputs, references, strict=True))
    ]
    write_predictions(path, "x", "generation", rows)
    note_policy(path, "x", {"generation": "g"}, "generation", "k")
    return path


def test_the_names_of_the_gate_are_those_that_exist() -> None:
    assert tuple(METRICS) == ANSWER_METRICS


def test_exact_match_f1_and_variety_by_hand(tmp_path: Path) -> None:
    folder = answers(tmp_path, ["The mill!", "old river", "a b a b a b a b"], ["mill", "old mill river", "c"])
    values = summarise(folder, {"x": ["exact_match", "f1"]})
    assert values["exact/x"] == {"exact_match": pytest.approx(1 / 3)}
    # normalised: mill = mill (1); 2 of 2 and 2 of 3 words (0.8); nothing (articles are dropped on both sides)
    assert values["f1/x"] == {"f1": pytest.approx((1 + 0.8 + 0) / 3)}
    assert "rouge/x" not in values and values["variety/x"]["repetition"] == pytest.approx(3 / 5)
    assert values["variety/x"]["words"] == pytest.approx(12 / 3) and values["variety/x"]["empty"] == 0


def test_numbers_are_read_from_answers_and_compared_exactly(tmp_path: Path) -> None:
    references = ["so 3 + 4 = 7 #### 7", "9 apples", "1,000"] * 10
    base = answers(tmp_path / "base", ["The answer is 7.", "nine", "999"] * 10, references)
    tuned = answers(tmp_path / "tuned", ["7.0", "I count 9", "it is 1000"] * 10, references)
    metrics = {"x": ["number"]}
    assert summarise(base, metrics)["number/x"] == {
        "accuracy": pytest.approx(1 / 3),
        "without_number": pytest.approx(1 / 3),
    }
    entry = compare(base, tuned, FAST, metrics)["number/x"]["accuracy"]
    assert (entry["won"], entry["lost"], entry["verdict"]) == (20, 0, "better")
    assert entry["p"] == pytest.approx(binomtest(0, 20).pvalue)
    some = answers(tmp_path / "some", ["7", "9", "Ann", "2"], ["7 cats", "Ann", "Ann", "3"])
    found = {"accuracy": 0.5, "without_number": 0.0, "left_out": 0.5}
    assert summarise(some, metrics)["number/x"] == found
    with pytest.raises(DataError, match=r"x: the reference of row r000 states no number, nor does any other; remove"):
        summarise(answers(tmp_path / "none", ["7"], ["seven"]), metrics)


def test_labels_give_accuracy_and_macro_f1(tmp_path: Path) -> None:
    outputs, references = (
        ["Positive.", "negative", "negative", "perhaps"],
        ["positive", "positive", "negative", "negative"],
    )
    values = summarise(answers(tmp_path, outputs, references), {"x": ["label"]})["label/x"]
    given = ["positive", "negative", "negative", "perhaps"]
    oracle = f1_score(references, given, average="macro", labels=["negative", "positive"])
    assert values == {"accuracy": 0.5, "macro_f1": pytest.approx(oracle), "no_label": 0.25}


def test_a_function_by_file_and_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scores.py").write_text(
        "def length(output, reference):\n    return abs(len(output) - len(reference))\nlength.lower_is_better = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    base = answers(tmp_path / "base", ["abcd" * (2 + n % 3) for n in range(40)], ["abc"] * 40)
    tuned = answers(tmp_path / "tuned", ["abcd"] * 40, ["abc"] * 40)
    for name in (f"{tmp_path}/my_scores.py:length", "my_scores:length"):
        entry = compare(base, tuned, FAST, {"x": [name]})["length/x"]["length"]
        assert entry["base"] == pytest.approx(np.mean([4 * (2 + n % 3) - 3 for n in range(40)]))
        assert entry["difference"] < 0 and entry["verdict"] == "better"
    assert source_file("my_scores:length") == tmp_path / "my_scores.py"
    assert (
        source_file("eval.measures.text:score_texts")
        == Path(str(compare.__code__.co_filename)).parent / "measures/text.py"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(o, r): return 1\n", "has no function score; it has other"),
        ("raise RuntimeError('no')\n", "cannot be imported (RuntimeError: no); correct the file"),
        ("def score(o, r): return 'much'\n", "gave 'much' for row r000; it must return a finite number"),
        ("def score(o, r): return float('nan')\n", "gave nan for row r000; it must return a finite number"),
        ("def score(o, r): return 10**400\n", "gave 1000000000"),
        ("def score(o, r): return 1e308\n", "it must return a finite number (at most 1e+100)"),
        ("def score(o): return 1\n", "failed on row r000 (TypeError"),
        ("def score(o, r): raise ValueError('two\\nlines')\n", "failed on row r000 (ValueError: two lines); it is"),
    ],
)
def test_what_a_function_does_wrong_is_named(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    folder = answers(tmp_path / "p", ["a"], ["b"])
    with pytest.raises(DataError) as caught:
        summarise(folder, {"x": [f"{tmp_path}/bad.py:score"]})
    assert f"metric {tmp_path}/bad.py:score: " in str(caught.value) and message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_metric_of_evaluate_by_a_local_script(tmp_path: Path) -> None:
    script = tmp_path / "overlap" / "overlap.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    outputs, references = ["the mill", "a river runs", "x"], ["the old mill", "a river", "y z w v"]
    values = summarise(answers(tmp_path / "p", outputs, references), {"x": [f"evaluate:{script}"]})["overlap/x"]
    assert values["overlap"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # the mean of rows is what can be compared
    assert values["overlap_of_all_rows"] == pytest.approx((2 + 2 + 0) / 9)
    assert source_file(f"evaluate:{script}") == script and source_file("evaluate:rouge") is None
    json.dumps(values)


def test_a_metric_of_evaluate_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metric evaluate:no/such: cannot be loaded \(.*give the path of a script"):
        summarise(answers(tmp_path, ["a"], ["b"]), {"x": ["evaluate:no/such"]})


def test_a_comparison_by_names_is_json(tmp_path: Path) -> None:
    one = answers(tmp_path / "one", ["a 1", "b 2"], ["a 1", "c 2"])
    found: Any = compare(one, one, FAST, {"x": list(ANSWER_METRICS)})
    assert {"rouge/x", "bleu/x", "exact/x", "f1/x", "number/x", "label/x", "toxicity/x"} == found.keys()
    json.dumps(found, allow_nan=False)


def test_toxicity_is_the_bundled_classifiers_and_less_is_better(tmp_path: Path) -> None:
    from data_prep.curation.toxicity.scorer import bundled_model

    rude, kind, metrics = ["you are a stupid idiot, shut up", ""], ["thank you, that is kind", ""], {"x": ["toxicity"]}
    base = answers(tmp_path / "base", rude * 15, ["x"] * 30)
    tuned = answers(tmp_path / "tuned", kind * 15, ["x"] * 30)
    scores = [bundled_model().scores([text])[0] or 0.0 for text in rude]
    assert bundled_model().scores([""]) == [None] and scores[0] > 0.5
    assert summarise(base, metrics)["toxicity/x"] == {"toxicity": pytest.approx(scores[0] / 2), "toxic_share": 0.5}
    entries = compare(base, tuned, FAST, metrics)["toxicity/x"]
    assert {entry["verdict"] for entry in entries.values()} == {"better"} and entries["toxic_share"]["lost"] == 15

"""Verdicts on stored predictions, and refusals of what cannot be compared. No model in this file."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from data_prep.errors import DataError
from eval.compare import compare, summarise, wins_and_regressions
from eval.config import StatisticsConfig
from eval.predictions import note_policy, write_predictions

FAST = StatisticsConfig(resamples=1000)
REFERENCE = "the old mill by the river runs at night"


def scored(nlls: list[float], size: int = 50) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "nll": nll, "tokens": 12, "words": 9, "bytes": size} for n, nll in enumerate(nlls)]


def answered(outputs: list[str]) -> list[dict[str, Any]]:
    rest = {"prompt": "?", "reference": REFERENCE, "finish_reason": "stop", "tokens": 3}
    return [{"id": f"r{n}", "output": output, **rest} for n, output in enumerate(outputs)]


def folder(path: Path, nlls: list[float] | None = None, outputs: list[str] | None = None, **policy: str) -> Path:
    if nlls is not None:
        write_predictions(path, "x", "perplexity", scored(nlls))
        note_policy(path, "x", {"perplexity": "p", **policy}, "perplexity", "k")
    if outputs is not None:
        write_predictions(path, "x", "generation", answered(outputs))
        note_policy(path, "x", {"generation": "g", **policy}, "generation", "k")
    return path


def noisy(mean: float, n: int = 60, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, 3, n))


def test_summary_equals_the_libraries(tmp_path: Path) -> None:
    outputs = ["the mill runs", "a river by night", "", REFERENCE]
    result = summarise(folder(tmp_path, [30.0, 40.0, 20.0, 10.0], outputs))
    rouge = [RougeScorer(["rougeL"], use_stemmer=True).score(REFERENCE, text)["rougeL"].fmeasure for text in outputs]
    assert result["rouge/x"]["rougeL"] == pytest.approx(np.mean(rouge))
    assert result["bleu/x"] == {
        "bleu": pytest.approx(corpus_bleu(outputs, [[REFERENCE] * 4]).score),
        "chrf": pytest.approx(corpus_chrf(outputs, [[REFERENCE] * 4]).score),
    }
    assert result["perplexity/x"] == {
        "bits_per_byte": pytest.approx(100 / 200 / np.log(2)),
        "byte_perplexity": pytest.approx(np.exp(100 / 200)),
        "word_perplexity": pytest.approx(np.exp(100 / 36)),
        "token_perplexity": pytest.approx(np.exp(100 / 48)),
    }
    assert list(result["rouge/x"]) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def test_lower_perplexity_is_better_and_higher_is_worse(tmp_path: Path) -> None:
    high, low = folder(tmp_path / "high", noisy(40)), folder(tmp_path / "low", [v - 2 for v in noisy(40)])
    for base, tuned, verdict, sign in ((high, low, "better", -1), (low, high, "worse", 1)):
        for metric, entry in compare(base, tuned, FAST)["perplexity/x"].items():
            assert entry["verdict"] == verdict, metric
            assert np.sign([entry["difference"], entry["low"], entry["high"]]).tolist() == [sign] * 3
            assert entry["difference"] == pytest.approx(entry["tuned"] - entry["base"])
            assert entry["more_needed"] is None and entry["n"] == 60 and 0 < entry["p"] <= entry["p_holm"] < 0.05


def test_higher_overlap_is_better(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", outputs=["night river", "mill at"] * 15)
    tuned = folder(tmp_path / "tuned", outputs=["the old mill by the river", "the river runs at night"] * 15)
    result = compare(base, tuned, FAST)
    assert {entry["verdict"] for task in ("rouge/x", "bleu/x") for entry in result[task].values()} == {"better"}
    assert result["bleu/x"]["chrf"]["tuned"] == summarise(tuned)["bleu/x"]["chrf"]


def test_noise_is_not_a_verdict_and_says_how_many_more_rows(tmp_path: Path) -> None:
    values = noisy(40)
    base, tuned = (
        folder(tmp_path / "base", values),
        folder(tmp_path / "tuned", list(np.add(values, noisy(0.1, seed=1)))),
    )
    entry = compare(base, tuned, FAST)["perplexity/x"]["bits_per_byte"]
    assert entry["verdict"] == "cannot tell"
    assert entry["low"] < 0 < entry["high"]
    assert entry["detectable"] > abs(entry["difference"]) and entry["more_needed"] > 0


def test_an_interval_beside_zero_alone_is_no_verdict(tmp_path: Path) -> None:
    # Four wins of four happen by chance once in eight times, whatever the bootstrap of four rows says.
    base, tuned = folder(tmp_path / "base", [40.0, 41, 42, 43]), folder(tmp_path / "tuned", [39.0, 40, 41, 42])
    entry = compare(base, tuned, FAST)["perplexity/x"]["bits_per_byte"]
    assert entry["high"] < 0 and entry["p_holm"] > 0.05
    assert entry["verdict"] == "cannot tell"
    assert entry["more_needed"] == 2  # six wins of six are the fewest that a verdict at 5 % takes: 2 / 2**6


@pytest.mark.parametrize(("rows", "more"), [(1, 5), (2, 4), (6, None)])
def test_few_rows_that_change_alike_do_not_claim_to_see_everything(tmp_path: Path, rows: int, more: int | None) -> None:
    nlls = [40.0] * rows
    base, tuned = folder(tmp_path / "a", nlls), folder(tmp_path / "b", [39.0] * rows)
    entry = compare(base, tuned, StatisticsConfig(resamples=20_000))["perplexity/x"]["bits_per_byte"]
    assert entry["verdict"] == ("better" if more is None else "cannot tell")
    assert entry["detectable"] is None and entry["more_needed"] == more
    odd = folder(tmp_path / "c", [0.1 + 0.2] * rows), folder(tmp_path / "d", [0.1] * rows)  # sums that are not exact
    assert compare(*odd, FAST)["perplexity/x"]["byte_perplexity"]["detectable"] is None
    same = compare(base, base, FAST)["perplexity/x"]["bits_per_byte"]
    assert (same["p"], same["verdict"], same["detectable"], same["more_needed"]) == (1, "cannot tell", None, None)


def test_more_metrics_take_more_rows_to_a_verdict(tmp_path: Path) -> None:
    """Beside seven hypotheses instead of one, a difference is found as often at a seventh of the level."""
    tuned = list(np.add(noisy(40), noisy(0.1, seed=1)))
    alone = compare(folder(tmp_path / "a", noisy(40)), folder(tmp_path / "b", tuned), FAST)["perplexity/x"]
    texts = ["a mill"] * 60
    both = compare(folder(tmp_path / "a", outputs=texts), folder(tmp_path / "b", outputs=texts), FAST)["perplexity/x"]
    one, other = alone["bits_per_byte"], both["bits_per_byte"]
    normal = NormalDist()
    factor = (normal.inv_cdf(1 - 0.025 / 7) + normal.inv_cdf(0.8)) / (normal.inv_cdf(0.975) + normal.inv_cdf(0.8))
    assert other["detectable"] == pytest.approx(factor * one["detectable"])
    assert other["more_needed"] + 60 == pytest.approx((one["more_needed"] + 60) * factor**2, abs=2)


def test_equal_predictions_cannot_be_told_apart(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", noisy(40), ["a mill"] * 60)
    for metrics in compare(base, base, FAST).values():
        for entry in metrics.values():
            assert (entry["difference"], entry["p"], entry["verdict"]) == (0, 1.0, "cannot tell")
            assert entry["more_needed"] is None


def test_units_of_one_likelihood_count_once_in_holms_correction(tmp_path: Path) -> None:
    alone = compare(folder(tmp_path / "a", noisy(40)), folder(tmp_path / "b", noisy(39, seed=1)), FAST)["perplexity/x"]
    assert {entry["p_holm"] for entry in alone.values()} == {alone["bits_per_byte"]["p"]}
    texts = ["a mill"] * 60
    both = compare(folder(tmp_path / "a", outputs=texts), folder(tmp_path / "b", outputs=texts), FAST)
    assert both["perplexity/x"]["bits_per_byte"]["p_holm"] == pytest.approx(min(1, 7 * alone["bits_per_byte"]["p"]))


def test_infinite_word_perplexity_and_unlike_tokenizers_are_left_out(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "nll": 3000.0 + n, "tokens": 900, "words": 1, "bytes": 2000} for n in range(9)]
    for name, tokens in (("a", 900), ("b", 800)):
        write_predictions(tmp_path / name, "x", "perplexity", [row | {"tokens": tokens} for row in rows])
        note_policy(tmp_path / name, "x", {}, "perplexity", "k")
    assert "word_perplexity" not in summarise(tmp_path / "a")["perplexity/x"]
    assert list(compare(tmp_path / "a", tmp_path / "b", FAST)["perplexity/x"]) == ["bits_per_byte", "byte_perplexity"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"drop": 1},
            r"x: cannot be compared, the generation rows differ \(1 only in base, 0 only in tuned, such as r2\)",
        ),
        ({"prompt": "!"}, "x: cannot be compared, the prompt of row r0 differs between base and tuned; predict both"),
        ({"reference": "other"}, "x: cannot be compared, the reference of row r0 differs"),
    ],
)
def test_unlike_rows_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    base, tuned = folder(tmp_path / "base", outputs=["a"] * 3), folder(tmp_path / "tuned", outputs=["a"] * 3)
    drop = changes.pop("drop", 0)
    write_predictions(tuned, "x", "generation", [row | changes for row in answered(["a"] * (3 - drop))])
    with pytest.raises(DataError, match=message):
        compare(base, tuned, FAST)


@pytest.mark.parametrize("name", ["perplexity", "generation", "template_sha256", "rouge", "bleu", "chrf"])
def test_unlike_policies_are_refused(tmp_path: Path, name: str) -> None:
    base = folder(tmp_path / "base", [1.0], ["a"], **{name: "one way"})
    tuned = folder(tmp_path / "tuned", [1.0], ["a"], **{name: "another"})
    advice = "with template=plain both are" if name == "template_sha256" else "predict both models again"
    message = f"x: cannot be compared, {name} is 'one way' for base and 'another' for tuned; .*{advice}"
    with pytest.raises(DataError, match=message):
        compare(base, tuned, FAST)


def test_unlike_folders_are_refused(tmp_path: Path) -> None:
    base, tuned = folder(tmp_path / "base", [1.0], ["a"]), folder(tmp_path / "tuned", [1.0], ["a"])
    with pytest.raises(DataError, match=r"predictions: base has \['x'\], tuned has \[\]; predict both models"):
        compare(base, tmp_path / "none", FAST)
    (tuned / "x.perplexity.jsonl").unlink()
    with pytest.raises(DataError, match="x: cannot be compared, only base has perplexity predictions"):
        compare(base, tuned, FAST)
    (base / "x.generation.jsonl").write_text("{torn\n")
    with pytest.raises(DataError, match="x.generation.jsonl: damaged .*; delete it and run the prediction again"):
        summarise(base)


def test_wins_and_regressions(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", outputs=["a", "the old mill", "the river", REFERENCE])
    tuned = folder(tmp_path / "tuned", outputs=[REFERENCE, "the old mill", "the river runs", "night"])
    result = wins_and_regressions(base, tuned, "x", count=2)
    assert [row["id"] for row in result["wins"]] == ["r0", "r2"]
    assert [row["id"] for row in result["regressions"]] == ["r3"]
    first = result["wins"][0]
    assert (first["base"], first["tuned"], first["base_score"], first["tuned_score"]) == ("a", REFERENCE, 0, 1)
    assert len(wins_and_regressions(base, tuned, "x", count=1)["wins"]) == 1
    with pytest.raises(DataError, match="metric bleu: not a score of single rows; allowed are rouge1, rouge2"):
        wins_and_regressions(base, tuned, "x", metric="bleu")


@pytest.mark.end_to_end
def test_a_comparison_is_json_and_needs_no_torch(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", noisy(40), ["a mill"] * 60)
    program = (
        "import sys, json, pathlib\n"
        "from eval.compare import compare, summarise\n"
        "from eval.config import StatisticsConfig\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "compared = compare(folder, folder, StatisticsConfig(resamples=100))\n"
        "print(json.dumps([summarise(folder), compared], allow_nan=False))\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(base)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["perplexity/x"]["bits_per_byte"] > 0

"""Tasks in the evaluate stage: what the plan holds and refuses, and one whole run."""

import json
from pathlib import Path

import pytest

from pipeline.cli import compose, options
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import Plan, make_plan
from tests.conftest import run_pipeline

ROWS = "".join(
    json.dumps(
        {"question": f"Which number follows {n}?", "options": f"A. {n + 1}\nB. {n + 2}", "answer": f"A. {n + 1}"}
    )
    + "\n"
    for n in range(40)
)
PAIRS = "".join(
    json.dumps({"sentence": f"[MASK] has {n} keys.", "mask1": "He", "mask2": "She", "bias_type": "gender"}) + "\n"
    for n in range(30)
)


def plan(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={tmp_path}"])))


@pytest.fixture
def counting(tmp_path: Path) -> list[str]:
    """Overrides that add a data set of questions and one of pairs."""
    (tmp_path / "counting.jsonl").write_text(ROWS, encoding="utf-8")
    (tmp_path / "keys.jsonl").write_text(PAIRS, encoding="utf-8")
    return [
        f"data.counting={{source: {tmp_path}/counting.jsonl, role: eval, format: text, columns: {{text: question}}, "
        "keep: [question, options, answer]}",
        f"data.keys={{source: {tmp_path}/keys.jsonl, role: eval, format: text, columns: {{text: sentence}}, "
        "keep: [sentence, mask1, mask2, bias_type]}",
    ]


TASKS = ["stages.evaluate.tasks.counting={kind: choice, shots: 1}", "stages.evaluate.tasks.keys={kind: pairs}"]


@pytest.mark.parametrize("benchmark", options("benchmark"))
def test_every_benchmark_passes_the_gate(benchmark: str) -> None:
    config = validate(RunConfig, compose(["+experiment=lora_llama", f"+benchmark={benchmark}"]))
    assert benchmark in config.data and config.data[benchmark].role == "eval"
    evaluate = config.stages["evaluate"].model_dump()
    assert benchmark in evaluate["tasks"] or benchmark in evaluate["metrics"]


def test_several_benchmarks_at_once() -> None:
    config = validate(RunConfig, compose(["+experiment=lora_llama", "+benchmark=[piqa,stereoset]"]))
    assert {"xsum", "piqa", "stereoset"} <= config.data.keys()


@pytest.mark.parametrize("judge", options("judge"))
def test_every_judge_passes_the_gate(judge: str) -> None:
    chosen = [f"+judge@stages.evaluate.judge={judge}", "stages.evaluate.judge.judges.main.model=org/other"]
    config = validate(RunConfig, compose(["+experiment=smoke", *chosen]))
    [one] = config.stages["evaluate"].model_dump()["judge"]["judges"]
    assert (one["kind"], one["model"]) == (judge, "org/other")


def test_a_benchmark_is_measured_whole_whatever_the_filter_drops(tmp_path: Path, counting: list[str]) -> None:
    made = plan(tmp_path / "o", *counting, *TASKS)
    nodes = {step.node.name: step.node for step in made.steps}
    assert nodes["evaluate/sft/counting"].inputs["dataset"].node.name == "data/counting"
    assert nodes["evaluate/sft/sample"].inputs["dataset"].node.name == "filter"
    assert not any("filter/counting" in name for name in nodes)  # nothing of an evaluation is curated
    asked = nodes["evaluate/sft/counting"].config
    assert asked["perplexity"] is None and asked["generation"] is None and asked["task"]["shots"] == 1
    assert nodes["evaluate/overlap/counting"].kind == "evaluate.overlap"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.evaluate.tasks.counted={kind: choice}",
            "stages.evaluate.tasks.counted: not evaluated here; evaluated",
        ),
        ("stages.evaluate.tasks.sample={kind: chioce}", "stages.evaluate.tasks.sample: {'kind': 'chioce'} is not"),
        (
            "stages.evaluate.tasks.sample={kind: choice, shot: 2}",
            "stages.evaluate.tasks.sample.shot: unknown key (value",
        ),
        ("stages.evaluate.tasks.sample={kind: classification, words: {a: x}}", "stages.evaluate.tasks.sample.words:"),
        ("stages.evaluate.metrics.sample=[rogue]", "'rogue' is no metric; allowed are rouge, bleu, exact_match, f1"),
        ("stages.evaluate.metrics.nothing=[f1]", "stages.evaluate.metrics.nothing: not evaluated here"),
        ("stages.evaluate.metrics.sample=['no_such_module:f']", "metric no_such_module:f: there is no module no_such"),
        ("stages.evaluate.metrics.sample=['gone.py:f']", "stages.evaluate.metrics: metric gone.py:f: gone.py does not"),
        ("stages.evaluate.labels=labels.json", "stages.evaluate.labels: there is no judge to compare them with"),
        ("stages.evaluate.forgetting={source: gone.jsonl}", "stages.evaluate.forgetting.source: gone.jsonl: does not"),
        ("stages.evaluate.forgetting={source: org/name}", "stages.evaluate.forgetting.source: org/name is no file"),
    ],
)
def test_what_cannot_be_is_refused_by_the_plan(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, override)
    assert message in str(caught.value), str(caught.value)


def test_judged_answers_must_be_generated(tmp_path: Path) -> None:
    judge = "stages.evaluate.judge={judges: [{kind: local, model: org/other}]}"
    with pytest.raises(ConfigError, match=r"stages.evaluate.judge: nothing is generated that could be judged"):
        plan(tmp_path, judge, "stages.evaluate.generation=null")


def test_metrics_and_statistics_do_not_predict_again(tmp_path: Path) -> None:
    def prints(*overrides: str) -> dict[str, str]:
        return {step.node.name: step.node.fingerprint for step in plan(tmp_path, *overrides).steps}

    before, after = prints(), prints("stages.evaluate.metrics.sample=[f1]", "stages.evaluate.statistics.seed=1")
    assert {name for name in before if before[name] != after[name]} == {"evaluate/sft_vs_base"}


def test_a_changed_metric_file_compares_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"

    def fingerprint(code: str) -> str:
        file.write_text(code, encoding="utf-8")
        return plan(tmp_path / "o", f"stages.evaluate.metrics.sample=['{file}:f']").steps[-1].node.fingerprint

    assert fingerprint("f = len") != fingerprint("f = max")


@pytest.mark.end_to_end
def test_a_run_with_tasks_and_metrics_of_ones_own(tmp_path: Path, counting: list[str]) -> None:
    """From raw files to a report: multiple choice with McNemar's p, pairs, own metrics, the n-gram yardstick."""
    (tmp_path / "mine.py").write_text("def shouting(output, reference):\n    return float(output.isupper())\n")
    own = f"stages.evaluate.metrics.sample=[rouge, exact_match, f1, '{tmp_path}/mine.py:shouting']"
    done = run_pipeline(tmp_path / "o", "+experiment=smoke", *counting, *TASKS, own, "stages.evaluate.baseline={}")
    assert done.code == 0, done.out + done.err
    evaluation = done.report["evaluation"]
    compared, values = evaluation["comparisons"]["sft_vs_base"], evaluation["models"]["sft"]
    entry = compared["choice/counting"]["accuracy"]
    assert entry["n"] == 40 and entry["won"] + entry["lost"] <= 40
    assert entry["difference"] == pytest.approx((entry["won"] - entry["lost"]) / 40)
    assert compared["pairs/keys"]["stereotype_share"]["neutral"] == 0.5
    assert {"rouge/sample", "exact/sample", "f1/sample", "shouting/sample"} <= compared.keys()
    assert "bleu/sample" not in compared and "characters" in values["variety/sample"]
    assert values["choice/counting"]["gold_probability"] > 0
    assert "1 first" in json.dumps(evaluation["policies"]["counting"])
    scale = evaluation["scale"]["sample"]
    assert 1 < scale < 8
    page = (done.outputs / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "choice/counting" in page and "macro-F1" not in page
    # The headline stays the perplexity of the data that was trained for.
    assert done.report["verdict"]["task"] == "perplexity/sample"

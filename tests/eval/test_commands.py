"""`python -m eval`: models alone and against each other, and lm-evaluation-harness on the same items."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.commands.benchmark import benchmarks
from eval.commands.cli import config_of, main
from eval.predictions import read_predictions

pytestmark = pytest.mark.end_to_end

ITEMS = [
    {"goal": f"how old is the {name} {n}", "sol1": f"{n} years", "sol2": f"the {name}", "label": (n + len(name)) % 2}
    for n, name in enumerate(["fox", "dog", "mill", "river"] * 4)
]
TASK = """
task: tiny_piqa
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
output_type: multiple_choice
validation_split: validation
doc_to_text: "Question: {{{{goal}}}}\nAnswer:"
doc_to_target: label
doc_to_choice: "{{{{[sol1, sol2]}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""


@pytest.fixture(scope="session")
def saved(model: Any, other_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models with their tokenizer as folders."""
    root = tmp_path_factory.mktemp("models")
    for name, each in (("one", model), ("two", other_model)):
        each.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture
def items(tmp_path: Path) -> Path:
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
    return file


def ours(saved: Path, items: Path, out: Path, *more: str) -> list[str]:
    data = [f"source={items}", "format=text", "columns.text=goal", "keep=[goal,sol1,sol2,label]"]
    settings = ["kind=choice", "task=piqa", "too_long=cut"]
    asked = [*(f"data.q.{each}" for each in data), *(f"settings.q.{each}" for each in settings)]
    return [
        f"model={saved / 'two'}",
        "tasks=[q]",
        *asked,
        f"output={out}",
        "statistics.resamples=300",
        "energy=null",
        *more,
    ]


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_one_model_alone(saved: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ours(saved, items, tmp_path / "out")) == 0
    found = results(tmp_path / "out")
    values = found["models"][str(saved / "two")]["choice/q"]
    rows = read_predictions(tmp_path / "out" / "model" / "q", "q", "choice")
    right = [row["gold"] == max(range(2), key=lambda at, row=row: row["log_likelihoods"][at]) for row in rows]
    assert values["accuracy"] == pytest.approx(sum(right) / 16) and found["comparisons"] == {}
    told = capsys.readouterr().out
    assert "accuracy" in told and "results.json" in told and "q choice:" in told


def test_against_a_base_and_against_lm_eval_are_the_same_numbers(saved: Path, items: Path, tmp_path: Path) -> None:
    """The harness on its own, through a task file, gives what ours gives: values, verdicts and McNemar's p."""
    assert main(ours(saved, items, tmp_path / "ours", f"base={saved / 'one'}")) == 0
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny_piqa.yaml").write_text(TASK.format(file=items), encoding="utf-8")
    theirs = [f"model={saved / 'two'}", f"base={saved / 'one'}", "tasks=[tiny_piqa]", "against=lm_eval"]
    more = [f"include={tmp_path / 'tasks'}", f"output={tmp_path / 'theirs'}", "statistics.resamples=300"]
    assert main([*theirs, *more]) == 0
    mine, other = results(tmp_path / "ours"), results(tmp_path / "theirs")
    pairs = (("accuracy", "acc"), ("accuracy_normalised", "acc_norm"))
    for name in ("one", "two"):
        values = mine["models"][str(saved / name)]["choice/q"], other["models"][str(saved / name)]["lm_eval/tiny_piqa"]
        for own, foreign in pairs:
            assert values[0][own] == pytest.approx(values[1][foreign])
    entries = (each["comparisons"]["model_vs_base"] for each in (mine, other))
    first, second = next(entries)["choice/q"], next(entries)["lm_eval/tiny_piqa"]
    for own, foreign in pairs:
        for key in ("base", "tuned", "difference", "n", "won", "lost", "p"):
            assert first[own][key] == pytest.approx(second[foreign][key]), (own, key)
    assert "lm-evaluation-harness" in other["policies"]["tiny_piqa"]["lm_eval"]


def test_generated_answers_of_rows_of_ones_own(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"the {name}", "completion": "runs at night"} for name in ("mill", "fox", "dog")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = ["tasks=[mine]", f"data.mine.source={file}", "generation.max_new_tokens=4", "metrics.mine=[exact_match,f1]"]
    command = [sys.executable, "-m", "eval", f"model={saved / 'one'}", *asked, f"output={tmp_path / 'out'}"]
    done = subprocess.run([*command, "template=plain"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    values = results(tmp_path / "out")["models"][str(saved / "one")]
    assert {"perplexity/mine", "exact/mine", "f1/mine", "variety/mine"} == values.keys()


def test_numbers_go_into_the_report_of_a_run(saved: Path, items: Path, tmp_path: Path) -> None:
    """Beside what is there: the report of the run keeps its own models, comparisons and headline."""
    run = tmp_path / "run"
    run.mkdir()
    there = {"models": {"sft": {"rouge/x": {"rougeL": 0.5}}}, "comparisons": {"sft_vs_base": {}}, "policies": {}}
    (run / "report.json").write_text(json.dumps({"schema_version": 1, "evaluation": there, "verdict": {"p": 1}}))
    assert main(ours(saved, items, tmp_path / "out", f"base={saved / 'one'}", f"into={run}")) == 0
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == {"p": 1} and report["evaluation"]["models"].keys() == {"sft", "one", "two"}
    assert report["evaluation"]["comparisons"].keys() == {"sft_vs_base", "two_vs_one"}
    assert (
        report["evaluation"]["comparisons"]["two_vs_one"] == results(tmp_path / "out")["comparisons"]["model_vs_base"]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model=x", "tasks=[piqa]", "into=gone"], 3, "error: into: gone/report.json is missing; give the folder of a"),
        (["modle=x", "tasks=[piqa]"], 2, "error: modle: unknown key (value 'x'); did you mean model?"),
        (["model=x"], 2, "error: tasks: missing; set it"),
        (["model=x", "tasks=[piqua]"], 2, "error: tasks: piqua: no such benchmark; did you mean piqa?; allowed: "),
        (["model=x", "tasks=[a]", "data.b.source=f"], 2, "error: data.b: not among the tasks ['a']; add it there"),
        (["model=x", "tasks=[a]", "limit=3"], 2, "error: limit and include go with against=lm_eval"),
        (["model=x", "tasks=[a]", "against=lm_eval", "metrics.a=[f1]"], 2, "error: data, settings and metrics do not"),
        (["model=x", "tasks=[a]", "settings.a={kind: choice, shotz: 1}"], 2, "settings.a.shotz: unknown key (value 1)"),
        (["model=x", "piqa"], 2, "error: piqa: settings have the form key=value"),
        (["model=gone", "tasks=[a]", "data.a.source=gone.jsonl"], 3, "error: gone.jsonl: does not exist"),
        (["model=gone", "tasks=[a]", "against=lm_eval"], 3, "error: tasks: a: not a task of lm-evaluation-harness"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, f"output={tmp_path}"]) == code
    assert message in capsys.readouterr().err


def test_a_folder_without_a_model(items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ours(tmp_path, items, tmp_path / "out")) == 3
    assert "has no config.json; give the folder that save_pretrained wrote" in capsys.readouterr().err


def test_a_missing_harness_is_named(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import eval.commands.lm_eval as module

    def gone(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(module, "import_module", gone)
    assert main([f"model={saved / 'one'}", "tasks=[x]", "against=lm_eval", f"output={tmp_path}"]) == 3
    assert "against=lm_eval: lm-evaluation-harness is missing" in (told := capsys.readouterr().err)
    assert "pip install 'provetune[lm_eval]'" in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("name", benchmarks())
def test_every_packaged_benchmark_is_known_here_too(name: str) -> None:
    config = config_of(["model=x", f"tasks=[{name}]"])
    assert name in config.data and (name in config.settings) != (name in config.metrics)


def test_what_is_typed_for_a_benchmark_wins_field_by_field() -> None:
    def piqa(*typed: str) -> dict[str, Any]:
        config = config_of(["model=x", "tasks=[piqa,asdiv_budget]", *typed])
        return {"task": config.settings["piqa"].model_dump(), "data": config.data["piqa"].model_dump()}

    plain, shots, limit = piqa(), piqa("settings.piqa.shots=3"), piqa("data.piqa.limit=20")
    assert shots["task"] == {**plain["task"], "shots": 3} and plain["task"]["max_rows"] == 200
    assert limit["data"] == {**plain["data"], "limit": 20} and limit["task"] == plain["task"]
    assert piqa("settings.piqa.max_rows=null")["task"]["max_rows"] is None
    assert piqa("settings.piqa={kind: cloze}")["task"]["kind"] == "cloze"  # another kind: nothing of piqa's is left
    budget = config_of(["model=x", "tasks=[asdiv_budget]", "settings.asdiv_budget.budget.most=96"])
    assert budget.settings["asdiv_budget"].model_dump()["budget"] == {
        "least": 64, "most": 96, "wait": "Wait", "end": "\nThe answer is",
    }  # fmt: skip
    off = config_of(["model=x", "tasks=[asdiv_budget]", "settings.asdiv_budget.budget=null"])
    assert off.settings["asdiv_budget"].model_dump()["budget"] is None
    steps = config_of(["model=x", "tasks=[asdiv]", "settings.asdiv.kind=reasoning"])
    assert steps.metrics == {} and steps.settings["asdiv"].kind == "reasoning"


def test_another_source_leaves_the_hubs_fields_behind() -> None:
    data = config_of(["model=x", "tasks=[gsm8k]", "data.gsm8k.source=mine.jsonl"]).data["gsm8k"]
    assert (data.source, data.subset, data.split, data.columns["prompt"]) == ("mine.jsonl", None, None, "question")
    assert config_of(["model=x", "tasks=[gsm8k]", "data.gsm8k.split=train"]).data["gsm8k"].subset == "main"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["tasks=[piqa]", "settings.piqa.shotz=1"], "settings.piqa.shotz: unknown key (value 1); did you mean shots?"),
        (["tasks=[piqa]", "settings.piqa=3"], "settings.piqa"),
        (["tasks=[piqa]", "settings=3"], "settings"),
        (["tasks=[piqa]", "data.piqa.limt=3"], "data.piqa.limt: unknown key (value 3); did you mean limit?"),
        (["tasks=[piqa]", "metrics.piqa=[f1]"], "metrics.piqa: nothing is generated, settings.piqa measures it"),
        (["tasks=[asdiv]", "generation=null"], "metrics.asdiv: nothing is generated, generation is null"),
        (["tasks=[a]", "data.a.source=f", "generation=null", "perplexity=null"], "perplexity and generation are both"),
        (["tasks=[piqa,piqa]"], "tasks: piqa is there twice; name each once"),
        (["tasks=[a/b]", "data.a/b.source=f"], "tasks: 'a/b' is no name; allowed are letters, digits, _ and -"),
        (["tasks=[..]"], "tasks: '..' is no name"),
        (["tasks=piqa"], "tasks: 'piqa' is not allowed: input should be a valid list"),
        (["tasks=[a]", "against=lm_eval", "generation.max_rows=3"], "generation: has no effect with against=lm_eval"),
        (["tasks=[a]", "against=lm_eval", "perplexity.stride=3"], "perplexity.stride: has no effect with against=lm"),
    ],
)
def test_settings_without_an_effect_and_of_a_wrong_form(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model=x", *typed]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}") and len(told.splitlines()) == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["--help"]) == 0
    assert "python -m eval model=FOLDER_OR_HUB_ID tasks=[piqa,boolq]" in capsys.readouterr().out


def test_what_it_cost_stands_beside_the_numbers(saved: Path, model: Any, items: Path, tmp_path: Path) -> None:
    asked = ours(saved, items, tmp_path, f"base={saved / 'one'}", "energy={}")
    assert main(asked) == 0
    costs = results(tmp_path)["costs"]
    assert costs.keys() == {str(saved / "one"), str(saved / "two")}
    for told in costs.values():
        task = told["tasks"]["q"]
        assert task["parameters"] == model.num_parameters() and task["weight_bytes"] == 4 * task["parameters"]
        assert task["choice_seconds_per_row"] == pytest.approx(task["choice_seconds"] / task["choice_rows"])
        assert task["choice_tokens_per_second"] == pytest.approx(task["choice_tokens"] / task["choice_seconds"])
        assert told["peak_memory_bytes"] > 1e7 and "energy" in told  # which is null where the meter was not ready yet
    assert main(asked) == 0  # read, not computed: then there is no speed
    assert "choice_seconds_per_row" not in results(tmp_path)["costs"][str(saved / "one")]["tasks"]["q"]

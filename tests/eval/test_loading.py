"""Loading: merged adapters give the adapter's logits, and refusals are one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from eval.loading import context_length, load_model, weights_key

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

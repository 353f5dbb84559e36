"""Which judges are refused because they are of a candidate's family."""

import json
from pathlib import Path

import pytest

from data_prep.errors import DataError
from eval.judge.family import ModelIdentity, check_families, identify, kinship

SHAPE = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "intermediate_size": 1536, "vocab_size": 49152,
}  # fmt: skip


def folder(place: Path, config: dict, adapter: dict | None = None) -> Path:
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    if adapter:
        (place / "adapter_config.json").write_text(json.dumps(adapter))
    return place


@pytest.mark.parametrize(
    ("judge", "candidate", "same"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-0.6B", True),
        ("Qwen/QwQ-32B", "Qwen/Qwen2.5-0.5B", True),
        ("gpt-4o-2024-08-06", "openai/gpt-oss-20b", True),
        ("o3-mini", "gpt-4.1", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "lmsys/vicuna-7b-v1.5", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen/Qwen2.5-0.5B", True),
        ("mistralai/Mixtral-8x7B", "mistralai/Ministral-8B", True),
        ("google/gemma-3-4b-it", "gemini-2.5-pro", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM3-3B", True),
        ("acme/Foobar-1B", "me/foobar-2-sft", True),
        ("gpt-4o", "Qwen/Qwen3-0.6B", False),
        ("claude-opus-4", "meta-llama/Llama-3.1-8B", False),
        ("google/gemma-3-4b-it", "HuggingFaceTB/SmolLM2-135M", False),
        ("/somewhere/model", "/elsewhere/model", False),
        ("acme/Foobar-1B", "acme/Bazqux-1B", False),
    ],
)
def test_families_by_name(judge: str, candidate: str, same: bool) -> None:
    assert (kinship(ModelIdentity(judge), ModelIdentity(candidate)) is not None) == same
    assert (kinship(ModelIdentity(candidate), ModelIdentity(judge)) is not None) == same


def test_families_by_configuration_whatever_the_folders_are_called(tmp_path: Path) -> None:
    judge = identify(folder(tmp_path / "one/model", SHAPE))
    same = identify(folder(tmp_path / "two/weights", SHAPE))
    wider = identify(folder(tmp_path / "three/model", {**SHAPE, "hidden_size": 640}))
    assert "llama networks of the same shape" in (kinship(judge, same) or "")
    assert kinship(judge, wider) is None


def test_an_adapter_and_a_fine_tune_name_their_base(tmp_path: Path) -> None:
    adapter = tmp_path / "sft"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}))
    tuned = identify(folder(tmp_path / "out", {**SHAPE, "_name_or_path": "google/gemma-3-1b-it"}))
    assert "family qwen" in (kinship(ModelIdentity("Qwen3-8B"), identify(adapter)) or "")
    assert "family gemini" in (kinship(ModelIdentity("gemma-3-27b"), tuned) or "")
    assert "family qwen" in (kinship(ModelIdentity("qwen-max"), identify(tmp_path, "Qwen/Qwen3-4B")) or "")


def test_gpt2_and_vision_configurations_have_a_shape_too(tmp_path: Path) -> None:
    old = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 99}
    shape = identify(folder(tmp_path / "a", old)).shape
    assert shape is not None and shape[1:4] == (64, 2, 2)
    assert identify(folder(tmp_path / "b", {"model_type": "x", "text_config": SHAPE})).shape is not None
    assert identify(tmp_path / "missing").shape is None


def test_own_family_is_refused_unless_forced() -> None:
    judge, candidate = ModelIdentity("Qwen3-8B"), ModelIdentity("Qwen2.5-0.5B")
    with pytest.raises(DataError, match="judge Qwen3-8B: both are of the family qwen .*Qwen2.5-0.5B.*force_own_family"):
        check_families([ModelIdentity("gpt-4o"), judge], [candidate], force=False)
    assert check_families([judge], [candidate], force=True) == "forced"
    assert check_families([ModelIdentity("gpt-4o")], [candidate], force=True) == "none"
    assert check_families([judge], [], force=False) == "unknown"

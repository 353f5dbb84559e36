"""Models placed by a device map, and with 4-bit and 8-bit weights through bitsandbytes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.models.tiny import KINDS, decoder, ids

NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
INT8 = BitsAndBytesConfig(load_in_8bit=True)
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
"""On a CPU bitsandbytes packs rows by 32."""
LATENT = {"q_lora_rank": 32, "kv_lora_rank": 24, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 8}


@pytest.mark.parametrize("kind", ["grouped_query", "latent", "experts"])
def test_a_device_map_places_the_same_model(kind: str, tmp_path: Path) -> None:
    model = decoder(**KINDS[kind])
    model.save_pretrained(tmp_path)
    layers = {f"model.layers.{layer}": "disk" if layer == 1 else "cpu" for layer in range(3)}
    rest = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary": "cpu", "lm_head": "cpu"}
    for device_map in ("auto", layers | rest):
        placed = AutoModelForCausalLM.from_pretrained(
            tmp_path, device_map=device_map, offload_folder=tmp_path / "away", attn_implementation="sdpa"
        ).eval()
        with torch.no_grad():
            assert torch.equal(placed(input_ids=ids(2, 9)).logits, model(input_ids=ids(2, 9)).logits)


@pytest.mark.parametrize("bits", [NF4, INT8], ids=["nf4", "int8"])
@pytest.mark.parametrize("kind", ["grouped_query", "latent", "experts"])
def test_quantised_weights_stay_near_and_carry_an_adapter(kind: str, bits: Any, tmp_path: Path) -> None:
    model = decoder(**KINDS[kind] | WIDE | (LATENT if kind == "latent" else {}))
    model.save_pretrained(tmp_path)
    small = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=bits, dtype=torch.float32)
    small.train()  # on a CPU a pass for inference packs 4-bit weights in place, and no gradient comes through them then
    kinds = {type(module).__name__ for module in small.modules()}
    assert ("Linear4bit" if bits is NF4 else "Linear8bitLt") in kinds
    with torch.no_grad():
        exact, near = model(input_ids=ids(2, 9)).logits, small(input_ids=ids(2, 9)).logits
    assert torch.nn.functional.cosine_similarity(exact, near, dim=-1).mean() > 0.9
    adapted = get_peft_model(small, LoraConfig(r=4, target_modules=model.config.lora_target_modules))
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _step in range(8):
        loss = adapted(input_ids=ids(2, 9), labels=ids(2, 9)).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1

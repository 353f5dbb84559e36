"""Senseless combinations are refused in one line with the reason; what a configuration states is so."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import ProvetuneConfig
from tests.models.tiny import LATENT, config

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"hiden_size": 4}, "hiden_size=4: no such field; did you mean hidden_size?"),
    ({"whatever": 4}, "whatever=4: no such field; see the fields of ProvetuneConfig"),
    ({"norm": "batch"}, "norm='batch': must be one of layer, rms"),
    (
        {"attention": "multi_head", "num_key_value_heads": 2},
        "num_key_value_heads=2: multi_head has one per head (4); use",
    ),
    ({"attention": "multi_query", "num_key_value_heads": 2}, "num_key_value_heads=2: multi_query has 1; use"),
    (
        {"attention": "grouped_query", "num_key_value_heads": 3},
        "num_key_value_heads=3: must divide num_attention_heads=4",
    ),
    ({"pattern": "sliding"}, "sliding_window=None: sliding layers need a number of tokens; set it"),
    ({"sliding_window": 8}, "sliding_window=8: no layer slides; set pattern=sliding or interleaved, or unset it"),
    ({"layer_types": ["full_attention"]}, "layer_types has 1 entries: must have one for each of the 3 layers"),
    ({"layer_types": ["chunked_attention"] * 3}, "attention_chunk_size=None: chunked layers need"),
    ({"pattern": "low_rank"}, "shape=decoder: low_rank mixes all positions, so that a token would see the future"),
    ({"shape": "encoder", "pattern": "low_rank", "positions": "t5"}, "positions=t5: projected keys have no distance"),
    (
        {"positions": "alibi", "rope_scaling_kind": "yarn"},
        "rope_scaling_kind=yarn: positions=alibi has nothing to scale",
    ),
    ({"rope_scaling_kind": "yarn", "rope_factor": 2.0}, "rope_original_context=None: yarn needs the context before"),
    ({"rope_scaling_kind": "linear", "rope_factor": 0.5}, "rope_factor=0.5: must be at least 1"),
    ({"head_dim": 5}, "head_dim=5: RoPE turns pairs; 5 values are odd"),
    (
        LATENT | {"positions": "alibi"},
        "positions=alibi: latent attention keeps positions in its rotated part; use rope",
    ),
    (LATENT | {"shape": "encoder"}, "attention=latent: its gain is a small cache, which encoders lack"),
    (LATENT | {"qk_norm": "head"}, "qk_norm=head: latent attention norms its latents already; use none"),
    ({"parallel_residual": True, "norm_position": "post"}, "norm_position=post: parallel branches share one norm"),
    ({"norm": "layer", "norm_unit_offset": True}, "norm_unit_offset with norm=layer: only RMSNorm stores it so"),
    ({"shared_experts": 1}, "shared_experts with num_experts=0: there is no router; set num_experts"),
    ({"capacity_factor": 1.0}, "capacity_factor with num_experts=0: there is no router; set num_experts"),
    ({"num_experts": 2, "experts_per_token": 3}, "experts_per_token=3: must be from 1 to num_experts=2"),
    ({"num_experts": 4, "router_groups": 3}, "router_groups=3: must divide num_experts=4"),
    (
        {"num_experts": 4, "experts_per_token": 1},
        "router_normalise with experts_per_token=1: the weight would always be 1",
    ),
    ({"shape": "encoder", "multi_token_layers": 1}, "multi_token_layers=1: an encoder predicts no next token"),
    ({"pooler": True}, "pooler and mlm_transform: parts of an encoder; shape=encoder"),
    ({"shape": "encoder_decoder", "parallel_residual": True}, "parallel_residual: cross-attention reads what"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_senseless_combinations_are_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as refusal:
        config(**changes)
    assert str(refusal.value).startswith(reason) and "\n" not in str(refusal.value)


def test_a_saved_configuration_is_the_same_after_loading(tmp_path: Path) -> None:
    before = config(pattern="interleaved", sliding_window=4, local_per_global=1, attention="multi_query")
    before.save_pretrained(tmp_path)
    after = ProvetuneConfig.from_pretrained(tmp_path)
    assert after.to_dict() == before.to_dict()
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert saved["model_type"] == "provetune" and saved["auto_map"]["AutoConfig"] == "config.ProvetuneConfig"


def test_cache_bytes_by_hand() -> None:
    assert config().kv_bytes_per_token() == 3 * 2 * 4 * 8 * 2
    assert config(attention="multi_query").kv_bytes_per_token() == 3 * 2 * 1 * 8 * 2
    assert config(**LATENT).kv_bytes_per_token() == 3 * (12 + 4) * 2
    windowed = config(pattern="interleaved", local_per_global=1, sliding_window=5)
    assert windowed.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert windowed.kv_bytes_per_token(context=100) == pytest.approx((1 + 2 * 4 / 100) * 2 * 4 * 8 * 2)
    assert config(shape="encoder").kv_bytes_per_token() == 0


def test_interleaved_layers_are_local_but_every_last_of_a_group() -> None:
    kinds = config(pattern="interleaved", num_hidden_layers=6, sliding_window=4, local_per_global=2).layer_types
    assert kinds == (["sliding_attention"] * 2 + ["full_attention"]) * 2

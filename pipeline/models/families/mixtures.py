"""Mixtures of experts with their own attention: DeepSeek-V2, DeepSeek-V3 and the text half of Llama 4."""

from typing import Any

from .decoders import ATTENTION, ENDS, EXPERTS, MLP, OURS, PRE_NORMS
from .shared import GATED, heads, rope, sizes, yarn_growth
from .weights import TRANSPOSED, layer

LATENT = {
    "self_attn.q_proj.weight": "self_attn.q_proj.weight",
    "self_attn.q_a_proj.weight": "self_attn.q_a_proj.weight",
    "self_attn.q_a_norm.weight": "self_attn.q_a_layernorm.weight",
    "self_attn.q_b_proj.weight": "self_attn.q_b_proj.weight",
    "self_attn.kv_a_proj.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "self_attn.kv_a_norm.weight": "self_attn.kv_a_layernorm.weight",
    "self_attn.kv_b_proj.weight": "self_attn.kv_b_proj.weight",
    "self_attn.o_proj.weight": "self_attn.o_proj.weight",
}
SHARED = {f"mlp.shared.{part}_proj.weight": f"mlp.shared_experts.{part}_proj.weight" for part in ("gate", "up", "down")}
BIAS = {"mlp.router.bias": "mlp.gate.e_score_correction_bias"}
DEEPSEEK_WEIGHTS = ENDS + layer(OURS, OURS, LATENT | SHARED | EXPERTS | BIAS | MLP | PRE_NORMS)
_FEED = {name: theirs.replace("mlp.", "feed_forward.") for name, theirs in MLP.items()}
_FEED |= {name: theirs.replace("mlp.shared_experts", "feed_forward.shared_expert") for name, theirs in SHARED.items()}
_FEED |= {"mlp.router.weight": "feed_forward.router.weight"}
_STACKED = {f"mlp.experts.{part}": f"feed_forward.experts.{part}" for part in ("gate_up_proj", "down_proj")}
LLAMA4_WEIGHTS = [
    *ENDS,
    *layer(OURS, OURS, ATTENTION | _FEED | PRE_NORMS),
    *layer(OURS, OURS, _STACKED, TRANSPOSED),
]


def _deepseek(theirs: Any) -> dict[str, Any]:
    scaling = rope(theirs.rope_parameters, theirs.max_position_embeddings)
    size = theirs.qk_nope_head_dim + theirs.qk_rope_head_dim
    grown = theirs.rope_parameters.get("mscale_all_dim") if "rope_scaling_kind" in scaling else None
    growth = yarn_growth(scaling.get("rope_factor", 1.0), grown) if grown else 1.0
    first = theirs.first_k_dense_replace
    return {
        **sizes(theirs), **scaling,
        "attention": "latent", "num_attention_heads": theirs.num_attention_heads, "q_lora_rank": theirs.q_lora_rank,
        "kv_lora_rank": theirs.kv_lora_rank, "qk_nope_head_dim": theirs.qk_nope_head_dim,
        "qk_rope_head_dim": theirs.qk_rope_head_dim, "v_head_dim": theirs.v_head_dim, "rope_pairs": "interleaved",
        "attention_scale": size**-0.5 * growth * growth, "norm_eps": theirs.rms_norm_eps,
        "feed_forward": GATED[theirs.hidden_act], "num_experts": theirs.n_routed_experts,
        "experts_per_token": theirs.num_experts_per_tok, "expert_intermediate_size": theirs.moe_intermediate_size,
        "shared_experts": theirs.n_shared_experts, "router_scale": theirs.routed_scaling_factor,
        "expert_layers": list(range(first, theirs.num_hidden_layers)),
    }  # fmt: skip


def deepseek_v2(theirs: Any) -> dict[str, Any]:
    """DeepSeek-V2 (arXiv:2405.04434)."""
    limited = theirs.topk_method == "group_limited_greedy"
    groups = {"router_groups": theirs.n_group, "router_top_groups": theirs.topk_group} if limited else {}
    return _deepseek(theirs) | groups | {"router_normalise": False}


def deepseek_v3(theirs: Any) -> dict[str, Any]:
    """DeepSeek-V3 (arXiv:2412.19437): sigmoid scores, balanced by a bias, groups by their two best experts."""
    found = _deepseek(theirs) | {
        "router_score": "sigmoid", "router_bias": True, "router_normalise": theirs.norm_topk_prob,
        "router_groups": theirs.n_group, "router_top_groups": theirs.topk_group, "router_group_score": "top2",
    }  # fmt: skip
    if not theirs.rope_interleave:
        found["rope_pairs"] = "halves"
    return found


def llama4(theirs: Any) -> dict[str, Any]:
    """Llama 4, text: chunked layers with RoPE, full layers without, experts on some layers."""
    temperature = theirs.attn_scale if theirs.attn_temperature_tuning else 0.0
    return {
        **sizes(theirs), **heads(theirs), **rope(theirs.rope_parameters, theirs.max_position_embeddings),
        "intermediate_size": theirs.intermediate_size_mlp, "expert_intermediate_size": theirs.intermediate_size,
        "layer_types": list(theirs.layer_types), "attention_chunk_size": theirs.attention_chunk_size,
        "rope_layers": [bool(flag) for flag in theirs.no_rope_layers], "rope_pairs": "interleaved",
        "qk_norm": "l2" if theirs.use_qk_norm else "none", "attention_bias": theirs.attention_bias,
        "nope_temperature_scale": temperature, "nope_temperature_floor": theirs.floor_scale,
        "norm_eps": theirs.rms_norm_eps, "feed_forward": GATED[theirs.hidden_act], "shared_experts": 1,
        "num_experts": theirs.num_local_experts, "experts_per_token": theirs.num_experts_per_tok,
        "expert_layers": list(theirs.moe_layers), "router_score": "sigmoid", "router_normalise": False,
        "router_weights_input": True,
    }  # fmt: skip

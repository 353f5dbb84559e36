"""Decoders that descend from Llama: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3, Phi, Mixtral; and GPT-2 before them."""

from typing import Any

from .shared import GATED, PLAIN, heads, rope, sizes, tokens, window
from .weights import SPLIT, SPLIT_TRANSPOSED, TRANSPOSED, Weight, layer, linear

OURS = "model.layers.{n}"
ENDS = [
    Weight("model.embed_tokens.weight", "model.embed_tokens.weight"),
    Weight("model.norm.weight", "model.norm.weight"),
    Weight("lm_head.weight", "lm_head.weight"),
]
ATTENTION = {
    name: ours
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj")
    for name, ours in linear(f"self_attn.{projection}", f"self_attn.{projection}").items()
} | {f"self_attn.{name}.weight": f"self_attn.{name}.weight" for name in ("q_norm", "k_norm")}
MLP = {
    name: ours
    for projection in ("gate_proj", "up_proj", "down_proj")
    for name, ours in linear(f"mlp.{projection}", f"mlp.{projection}").items()
}
PRE_NORMS = {"attention_norm.weight": "input_layernorm.weight", "mlp_norm.weight": "post_attention_layernorm.weight"}
SANDWICH = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention_post_norm.weight": "post_attention_layernorm.weight",
    "mlp_norm.weight": "pre_feedforward_layernorm.weight",
    "mlp_post_norm.weight": "post_feedforward_layernorm.weight",
}
LLAMA_WEIGHTS = ENDS + layer(OURS, OURS, ATTENTION | MLP | PRE_NORMS)
GEMMA_WEIGHTS = ENDS + layer(OURS, OURS, ATTENTION | MLP | SANDWICH)
EXPERTS = {
    "mlp.router.weight": "mlp.gate.weight",
    "mlp.experts.gate_up_proj": "mlp.experts.gate_up_proj",
    "mlp.experts.down_proj": "mlp.experts.down_proj",
}
MIXTRAL_WEIGHTS = ENDS + layer(OURS, OURS, ATTENTION | EXPERTS | PRE_NORMS)
PHI_NAMES = linear("attention_norm", "input_layernorm") | linear("mlp.up_proj", "mlp.fc1")
PHI_NAMES |= linear("mlp.down_proj", "mlp.fc2") | linear("self_attn.o_proj", "self_attn.dense")
for _part in ("q", "k", "v"):
    PHI_NAMES |= linear(f"self_attn.{_part}_proj", f"self_attn.{_part}_proj")
for _part in ("q", "k"):
    PHI_NAMES |= linear(f"self_attn.{_part}_norm", f"self_attn.{_part}_layernorm")
PHI_WEIGHTS = [
    ENDS[0],
    ENDS[2],
    Weight("lm_head.bias", "lm_head.bias"),
    Weight("model.norm.weight", "model.final_layernorm.weight"),
    Weight("model.norm.bias", "model.final_layernorm.bias"),
    *layer(OURS, OURS, PHI_NAMES),
]
_QKV = tuple(f"{OURS}.self_attn.{part}_proj" for part in "qkv")
_GPT2 = "transformer.h.{n}"
GPT2_WEIGHTS = [
    Weight("model.embed_tokens.weight", "transformer.wte.weight"),
    Weight("model.embed_positions.weight", "transformer.wpe.weight"),
    Weight("model.norm.weight", "transformer.ln_f.weight"),
    Weight("model.norm.bias", "transformer.ln_f.bias"),
    ENDS[2],
    *layer(OURS, _GPT2, linear("attention_norm", "ln_1") | linear("mlp_norm", "ln_2")),
    Weight(tuple(f"{name}.weight" for name in _QKV), f"{_GPT2}.attn.c_attn.weight", SPLIT_TRANSPOSED),
    Weight(tuple(f"{name}.bias" for name in _QKV), f"{_GPT2}.attn.c_attn.bias", SPLIT),
    *layer(OURS, _GPT2, {"self_attn.o_proj.weight": "attn.c_proj.weight"}, TRANSPOSED),
    *layer(OURS, _GPT2, {"mlp.up_proj.weight": "mlp.c_fc.weight"}, TRANSPOSED),
    *layer(OURS, _GPT2, {"mlp.down_proj.weight": "mlp.c_proj.weight"}, TRANSPOSED),
    *layer(OURS, _GPT2, {"self_attn.o_proj.bias": "attn.c_proj.bias", "mlp.up_proj.bias": "mlp.c_fc.bias"}),
    *layer(OURS, _GPT2, {"mlp.down_proj.bias": "mlp.c_proj.bias"}),
]


def llama(theirs: Any) -> dict[str, Any]:
    """Llama 1 to 3 (arXiv:2302.13971, 2407.21783), and SmolLM2."""
    bias = getattr(theirs, "attention_bias", False)
    return {
        **sizes(theirs), **heads(theirs), **rope(theirs.rope_parameters, theirs.max_position_embeddings),
        "attention_bias": bias, "feed_forward": GATED[theirs.hidden_act], "norm_eps": theirs.rms_norm_eps,
        "feed_forward_bias": getattr(theirs, "mlp_bias", False), "attention_dropout": theirs.attention_dropout,
    }  # fmt: skip


def mistral(theirs: Any) -> dict[str, Any]:
    """Mistral 7B (arXiv:2310.06825): every layer may slide."""
    return llama(theirs) | window(theirs)


def mixtral(theirs: Any) -> dict[str, Any]:
    """Mixtral (arXiv:2401.04088)."""
    return mistral(theirs) | {
        "num_experts": theirs.num_local_experts,
        "experts_per_token": theirs.num_experts_per_tok,
        "balance_loss": theirs.router_aux_loss_coef,
    }


def qwen2(theirs: Any) -> dict[str, Any]:
    """Qwen 2 (arXiv:2407.10671): biases of queries, keys and values alone."""
    return llama(theirs) | window(theirs) | {"attention_bias": True, "attention_out_bias": False}


def qwen3(theirs: Any) -> dict[str, Any]:
    """Qwen 3 (arXiv:2505.09388): queries and keys normed."""
    return llama(theirs) | window(theirs) | {"qk_norm": "head"}


def gemma(theirs: Any) -> dict[str, Any]:
    """Gemma (arXiv:2403.08295)."""
    return {
        **sizes(theirs), **heads(theirs), **rope(theirs.rope_parameters, theirs.max_position_embeddings),
        "attention_bias": theirs.attention_bias, "norm_eps": theirs.rms_norm_eps, "norm_unit_offset": True,
        "feed_forward": GATED[getattr(theirs, "hidden_activation", None) or theirs.hidden_act],
        "embedding_scale": theirs.hidden_size**0.5, "attention_dropout": theirs.attention_dropout,
    }  # fmt: skip


def gemma2(theirs: Any) -> dict[str, Any]:
    """Gemma 2 (arXiv:2408.00118): sandwich norms, soft-caps, every other layer local."""
    local = theirs.rope_parameters if "rope_theta" in theirs.rope_parameters else None
    base = theirs if local else _with_rope(theirs, "full_attention")
    return gemma(base) | window(theirs) | {
        "norm_position": "sandwich",
        "attention_scale": theirs.query_pre_attn_scalar**-0.5,
        "attention_softcap": theirs.attn_logit_softcapping,
        "logit_softcap": theirs.final_logit_softcapping,
    }  # fmt: skip


def gemma3(theirs: Any) -> dict[str, Any]:
    """Gemma 3 (arXiv:2503.19786): five local layers to a global one, each with its own base; soft-caps gave way."""
    local = float(theirs.rope_parameters["sliding_attention"]["rope_theta"])
    return gemma2(theirs) | {"qk_norm": "head", "rope_theta_local": local, "attention_softcap": None}


class _with_rope:
    """A configuration seen with the RoPE of one kind of layer."""

    def __init__(self, theirs: Any, kind: str) -> None:
        self._theirs, self.rope_parameters = theirs, theirs.rope_parameters[kind]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)


def phi(theirs: Any) -> dict[str, Any]:
    """Phi 1 to 2 (arXiv:2309.05463): parallel branches, RoPE on a part of each head."""
    return {
        **sizes(theirs), **heads(theirs), **rope(theirs.rope_parameters, theirs.max_position_embeddings),
        "attention_bias": True, "feed_forward": PLAIN[theirs.hidden_act], "feed_forward_bias": True, "norm": "layer",
        "norm_eps": theirs.layer_norm_eps, "parallel_residual": True, "lm_head_bias": True,
        "qk_norm": "head" if theirs.qk_layernorm else "none", "dropout": theirs.resid_pdrop,
    }  # fmt: skip


def gpt2(theirs: Any) -> dict[str, Any]:
    """GPT-2 (Radford et al. 2019)."""
    return {
        **tokens(theirs), "vocab_size": theirs.vocab_size, "hidden_size": theirs.n_embd,
        "intermediate_size": theirs.n_inner or 4 * theirs.n_embd, "num_hidden_layers": theirs.n_layer,
        "num_attention_heads": theirs.n_head, "max_position_embeddings": theirs.n_positions, "positions": "learned",
        "attention_bias": True, "feed_forward": PLAIN[theirs.activation_function], "feed_forward_bias": True,
        "norm": "layer", "norm_eps": theirs.layer_norm_epsilon, "tie_word_embeddings": theirs.tie_word_embeddings,
        "dropout": theirs.resid_pdrop, "attention_dropout": theirs.attn_pdrop,
        "initializer_range": theirs.initializer_range,
    }  # fmt: skip

"""What the configurations of several families have in common."""

import math
from typing import Any

GATED = {
    "relu": "reglu", "gelu": "geglu", "gelu_new": "geglu_tanh", "gelu_pytorch_tanh": "geglu_tanh", "silu": "swiglu",
}  # fmt: skip
PLAIN = {
    "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu",
    "quick_gelu": "gelu_sigmoid",
}  # fmt: skip


def sizes(theirs: Any) -> dict[str, Any]:
    """Vocabulary, widths, layers, heads and special tokens of a decoder of Llama's naming."""
    return {
        "vocab_size": theirs.vocab_size,
        "hidden_size": theirs.hidden_size,
        "intermediate_size": theirs.intermediate_size,
        "num_hidden_layers": theirs.num_hidden_layers,
        "max_position_embeddings": theirs.max_position_embeddings,
        "tie_word_embeddings": theirs.tie_word_embeddings,
        "initializer_range": theirs.initializer_range,
        **tokens(theirs),
    }


def tokens(theirs: Any) -> dict[str, Any]:
    """Ids of the special tokens."""
    return {name: getattr(theirs, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def heads(theirs: Any) -> dict[str, Any]:
    """Attention heads, and the kind that their numbers make."""
    count, groups = theirs.num_attention_heads, getattr(theirs, "num_key_value_heads", None)
    groups = groups or count
    kind = "multi_head" if groups == count else "multi_query" if groups == 1 else "grouped_query"
    size = getattr(theirs, "head_dim", None) or theirs.hidden_size // count
    return {"attention": kind, "num_attention_heads": count, "num_key_value_heads": groups, "head_dim": size}


def window(theirs: Any) -> dict[str, Any]:
    """Sliding layers; their `layer_types` say which, or all slide when only a window is given."""
    kinds = getattr(theirs, "layer_types", None)
    if kinds is None:
        slides = theirs.sliding_window is not None
        return {"pattern": "sliding", "sliding_window": theirs.sliding_window} if slides else {}
    slides = "sliding_attention" in kinds
    return {"layer_types": list(kinds), "sliding_window": theirs.sliding_window if slides else None}


def rope(parameters: dict[str, Any], context: int) -> dict[str, Any]:
    """RoPE's base and scaling from `rope_parameters`; ValueError for a scaling that we lack."""
    kind = parameters.get("rope_type", "default")
    found: dict[str, Any] = {"rope_theta": float(parameters["rope_theta"])}
    found["rope_fraction"] = float(parameters.get("partial_rotary_factor", 1.0))
    if kind == "default":
        return found
    if kind not in ("linear", "llama3", "yarn"):
        raise ValueError(f"rope_type={kind!r}: must be default, linear, llama3 or yarn; convert it first")
    original = parameters.get("original_max_position_embeddings")
    factor = parameters.get("factor") or context / original  # type: ignore[operator]
    found |= {"rope_scaling_kind": kind, "rope_factor": float(factor), "rope_original_context": original}
    for ours, their in (("low_freq_factor",) * 2, ("high_freq_factor",) * 2, ("beta_fast",) * 2, ("beta_slow",) * 2):
        if parameters.get(their) is not None:
            found[f"rope_{ours}"] = float(parameters[their])
    if kind == "yarn":
        found["rope_attention_factor"] = _yarn_factor(parameters, float(factor))
    return found


def yarn_growth(factor: float, weight: float) -> float:
    """YaRN's growth of the scores with the context: 0.1·weight·ln(factor) + 1."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _yarn_factor(parameters: dict[str, Any], factor: float) -> float:
    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])
    one, every = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return yarn_growth(factor, one) / yarn_growth(factor, every) if one and every else yarn_growth(factor, 1.0)

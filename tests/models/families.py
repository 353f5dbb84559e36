"""Tiny random models of transformers, one or more for each family; every weight is random, also norms and biases."""

from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY, WIDTH, LAYERS = 96, 32, 4
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = TINY | {"num_key_value_heads": 2}
LATENT: dict[str, Any] = TINY | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 2, "moe_intermediate_size": 24,
    "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
DEEP_YARN = YARN | {"mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 32, "beta_slow": 1}
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 10, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", GROUPED),
    "llama-biased": ("Llama", TINY | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-3": ("Llama", GROUPED | {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 32}}),
    "llama-linear": (
        "Llama",
        GROUPED | {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "llama-yarn": ("Llama", GROUPED | {"rope_parameters": YARN}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 7}),
    "mixtral": ("Mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7}),
    "qwen2": ("Qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 12}),
    "gemma": ("Gemma", TINY | {"num_key_value_heads": 1, "head_dim": 12}),
    "gemma2": ("Gemma2", GROUPED | {"head_dim": 12, "sliding_window": 7, "query_pre_attn_scalar": 20}),
    "gemma3": ("Gemma3", GROUPED | {"head_dim": 12, "sliding_window": 7, "sliding_window_pattern": 2}),
    "phi": (
        "Phi",
        TINY | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
    "phi-normed": ("Phi", TINY | {"qk_layernorm": True}),
    "gpt2": ("GPT2", {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "deepseek_v2": ("DeepseekV2", LATENT | {"topk_method": "group_limited_greedy", "routed_scaling_factor": 1.7}),
    "deepseek_v2-lite": ("DeepseekV2", LATENT | {"q_lora_rank": None, "rope_parameters": DEEP_YARN}),
    "deepseek_v3": ("DeepseekV3", LATENT | {"rope_parameters": DEEP_YARN}),
    "llama4": (
        "Llama4",
        GROUPED
        | {"head_dim": 8, "intermediate_size_mlp": 40, "num_local_experts": 4, "interleave_moe_layer_step": 2}
        | {"attention_chunk_size": 7, "no_rope_layer_interval": 2, "floor_scale": 5, "attn_scale": 0.3},
    ),
    "bert": ("Bert", TINY),
    "t5": ("T5", T5),
    "t5-gated": ("T5", T5 | {"feed_forward_proj": "gated-gelu"}),
    "bart": ("Bart", BART),
    "bart-scaled": ("Bart", BART | {"scale_embedding": True}),
}
HEADS = {"GPT2": "GPT2LMHeadModel", "Bert": "BertForMaskedLM", "Llama4": "Llama4ForCausalLM"}
CONFIGS = {"Gemma3": "Gemma3TextConfig", "Llama4": "Llama4TextConfig"}


def model(case: str, implementation: str = "eager") -> PreTrainedModel:
    """A random model of transformers in float32, for evaluation."""
    family, values = CASES[case]
    config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(**values)
    config._attn_implementation = implementation
    if hasattr(config, "_experts_implementation"):
        config._experts_implementation = "eager"
    head = "ForConditionalGeneration" if family in ("T5", "Bart") else "ForCausalLM"
    torch.manual_seed(0)
    theirs = getattr(transformers, HEADS.get(family, family + head))(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            scale = 0.3 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5
            around = 1.0 if "norm" in name.lower() and name.endswith("weight") and family[:5] != "Gemma" else 0.0
            parameter.copy_(around + scale * torch.randn_like(parameter))
        for name, buffer in theirs.named_buffers():
            if "correction_bias" in name or "final_logits_bias" in name:
                buffer.copy_(0.1 * torch.randn_like(buffer))
    return theirs

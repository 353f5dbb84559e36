"""Encoders and encoder–decoders: BERT, T5 and BART."""

from typing import Any

from .shared import GATED, PLAIN, tokens
from .weights import ROW, Weight, layer, linear

_BERT = "bert.encoder.layer.{n}"
_BERT_NAMES = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.o_proj": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_HEAD = "cls.predictions"
_OUTER = linear("model.embed_norm", "bert.embeddings.LayerNorm") | linear("transform", f"{_HEAD}.transform.dense")
_OUTER |= linear("transform_norm", f"{_HEAD}.transform.LayerNorm")
BERT_WEIGHTS = [
    Weight("model.embed_tokens.weight", "bert.embeddings.word_embeddings.weight"),
    Weight("model.embed_positions.weight", "bert.embeddings.position_embeddings.weight"),
    Weight("model.embed_types.weight", "bert.embeddings.token_type_embeddings.weight"),
    Weight("lm_head.weight", f"{_HEAD}.decoder.weight"),
    Weight("lm_head.bias", (f"{_HEAD}.decoder.bias", f"{_HEAD}.bias")),
    *(Weight(ours, theirs) for ours, theirs in _OUTER.items()),
    *(w for ours, theirs in _BERT_NAMES.items() for w in layer("model.layers.{n}", _BERT, linear(ours, theirs))),
]


def _t5_half(half: str, gated: bool) -> list[Weight]:
    last = 1 if half == "encoder" else 2
    names = {"attention_norm.weight": "layer.0.layer_norm.weight"}
    names |= {f"self_attn.{part}_proj.weight": f"layer.0.SelfAttention.{part}.weight" for part in "qkvo"}
    if half == "decoder":
        names |= {f"cross_attn.{part}_proj.weight": f"layer.1.EncDecAttention.{part}.weight" for part in "qkvo"}
        names |= {"cross_norm.weight": "layer.1.layer_norm.weight"}
    feed = f"layer.{last}.DenseReluDense"
    names |= {"mlp_norm.weight": f"layer.{last}.layer_norm.weight", "mlp.down_proj.weight": f"{feed}.wo.weight"}
    if gated:
        names |= {"mlp.gate_proj.weight": f"{feed}.wi_0.weight", "mlp.up_proj.weight": f"{feed}.wi_1.weight"}
    else:
        names |= {"mlp.up_proj.weight": f"{feed}.wi.weight"}
    ours, theirs = f"model.{half}", f"{half}.block"
    bias = f"{theirs}.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return [
        Weight(f"{ours}.norm.weight", f"{half}.final_layer_norm.weight"),
        Weight(f"{ours}.relative_bias.table.weight", bias),
        *layer(f"{ours}.layers.{{n}}", f"{theirs}.{{n}}", names),
    ]


_SHARED = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_T5_ENDS = [Weight("model.encoder.embed_tokens.weight", _SHARED), Weight("lm_head.weight", "lm_head.weight")]
T5_WEIGHTS = [*_T5_ENDS, *_t5_half("encoder", False), *_t5_half("decoder", False)]
T5_GATED_WEIGHTS = [*_T5_ENDS, *_t5_half("encoder", True), *_t5_half("decoder", True)]


def _bart_half(half: str) -> list[Weight]:
    names = linear("attention_norm", "self_attn_layer_norm") | linear("mlp_norm", "final_layer_norm")
    names |= linear("mlp.up_proj", "fc1") | linear("mlp.down_proj", "fc2")
    pairs = {"self_attn": "self_attn"} | ({"cross_attn": "encoder_attn"} if half == "decoder" else {})
    for ours, theirs in pairs.items():
        for part in "qkv":
            names |= linear(f"{ours}.{part}_proj", f"{theirs}.{part}_proj")
        names |= linear(f"{ours}.o_proj", f"{theirs}.out_proj")
    names |= linear("cross_norm", "encoder_attn_layer_norm") if half == "decoder" else {}
    embed_norm = linear(f"model.{half}.embed_norm", f"model.{half}.layernorm_embedding")
    return [
        Weight(f"model.{half}.embed_positions.weight", f"model.{half}.embed_positions.weight"),
        *(Weight(ours, theirs) for ours, theirs in embed_norm.items()),
        *layer(f"model.{half}.layers.{{n}}", f"model.{half}.layers.{{n}}", names),
    ]


BART_WEIGHTS = [
    Weight("model.encoder.embed_tokens.weight", tuple(f"model.{name}" for name in _SHARED)),
    Weight("lm_head.weight", "lm_head.weight"),
    Weight("lm_head.bias", "final_logits_bias", ROW),
    *_bart_half("encoder"),
    *_bart_half("decoder"),
]


def bert(theirs: Any) -> dict[str, Any]:
    """BERT (arXiv:1810.04805) with its masked-LM head."""
    return {
        **tokens(theirs), "shape": "encoder", "vocab_size": theirs.vocab_size, "hidden_size": theirs.hidden_size,
        "intermediate_size": theirs.intermediate_size, "num_hidden_layers": theirs.num_hidden_layers,
        "num_attention_heads": theirs.num_attention_heads, "max_position_embeddings": theirs.max_position_embeddings,
        "type_vocab_size": theirs.type_vocab_size, "positions": "learned", "attention_bias": True,
        "feed_forward": PLAIN[theirs.hidden_act], "feed_forward_bias": True, "norm": "layer", "norm_position": "post",
        "norm_eps": theirs.layer_norm_eps, "embedding_norm": True, "mlm_transform": True, "lm_head_bias": True,
        "tie_word_embeddings": theirs.tie_word_embeddings, "dropout": theirs.hidden_dropout_prob,
        "attention_dropout": theirs.attention_probs_dropout_prob, "scale_residual_init": False,
    }  # fmt: skip


def t5(theirs: Any) -> dict[str, Any]:
    """T5 (arXiv:1910.10683)."""
    feed = (GATED if theirs.is_gated_act else PLAIN)[theirs.dense_act_fn]
    return {
        **tokens(theirs), "shape": "encoder_decoder", "vocab_size": theirs.vocab_size, "hidden_size": theirs.d_model,
        "intermediate_size": theirs.d_ff, "num_hidden_layers": theirs.num_decoder_layers,
        "num_encoder_layers": theirs.num_layers, "num_attention_heads": theirs.num_heads, "head_dim": theirs.d_kv,
        "positions": "t5", "relative_buckets": theirs.relative_attention_num_buckets,
        "relative_max_distance": theirs.relative_attention_max_distance, "attention_scale": 1.0, "feed_forward": feed,
        "norm_eps": theirs.layer_norm_epsilon, "tie_word_embeddings": theirs.tie_word_embeddings,
        "logit_scale": theirs.d_model**-0.5 if theirs.scale_decoder_outputs else 1.0, "dropout": theirs.dropout_rate,
        "decoder_start_token_id": theirs.pad_token_id, "attention_dropout": theirs.dropout_rate,
    }  # fmt: skip


def bart(theirs: Any) -> dict[str, Any]:
    """BART (arXiv:1910.13461); both stacks have equally many heads."""
    if theirs.encoder_attention_heads != theirs.decoder_attention_heads:
        raise ValueError(
            f"encoder_attention_heads={theirs.encoder_attention_heads}: must equal decoder_attention_heads="
            f"{theirs.decoder_attention_heads}; no published BART differs"
        )
    return {
        **tokens(theirs), "shape": "encoder_decoder", "vocab_size": theirs.vocab_size, "hidden_size": theirs.d_model,
        "intermediate_size": theirs.decoder_ffn_dim, "encoder_intermediate_size": theirs.encoder_ffn_dim,
        "num_hidden_layers": theirs.decoder_layers, "num_encoder_layers": theirs.encoder_layers,
        "num_attention_heads": theirs.encoder_attention_heads, "positions": "learned", "position_offset": 2,
        "max_position_embeddings": theirs.max_position_embeddings, "attention_bias": True, "feed_forward_bias": True,
        "feed_forward": PLAIN[theirs.activation_function], "norm": "layer", "norm_position": "post", "norm_eps": 1e-5,
        "embedding_norm": True, "embedding_scale": theirs.d_model**0.5 if theirs.scale_embedding else 1.0,
        "tie_word_embeddings": theirs.tie_word_embeddings, "lm_head_bias": True, "dropout": theirs.dropout,
        "decoder_start_token_id": theirs.decoder_start_token_id, "attention_dropout": theirs.attention_dropout,
    }  # fmt: skip

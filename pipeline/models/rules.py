"""What a configuration must not say, each with the reason: one line with the thing, the value, and what to do."""

import difflib
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin

LIBRARY_KEYS = {
    "_attn_implementation_internal", "_experts_implementation_internal", "_name_or_path", "_commit_hash", "auto_map",
    "attn_implementation", "experts_implementation", "model_type", "name_or_path", "num_labels", "output_attentions",
    "per_layer_config", "quantization_config", "torch_dtype", "transformers_weights",
}  # fmt: skip
"""What transformers itself passes beside the fields."""


def refuse_unknown(kind: type, given: dict[str, Any]) -> None:
    """Raise ValueError for a key that no field has: transformers would keep it in silence."""
    names = [field.name for field in fields(kind)]
    for key in given:
        if key not in LIBRARY_KEYS:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]}?" if near else "see the fields of ProvetuneConfig"
            raise ValueError(f"{key}={given[key]!r}: no such field; {hint}")


def check(config: Any) -> None:
    """Raise ValueError with one line for the first combination that makes no sense."""
    _check_choices(config)
    for rule in (_heads, _patterns, _positions, _norms, _experts, _shapes, _latent, _low_rank):
        for broken, reason in rule(config):
            if broken:
                raise ValueError(reason)


def _check_choices(config: Any) -> None:
    for name, hint in type(config).__annotations__.items():
        options = [hint] if get_origin(hint) is Literal else []
        if get_origin(hint) is Union:
            options = [part for part in get_args(hint) if get_origin(part) is Literal]
        value = getattr(config, name, None)
        allowed = [choice for option in options for choice in get_args(option)]
        if allowed and value is not None and value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(str, allowed))}")


Findings = list[tuple[bool, str]]


def _heads(c: Any) -> Findings:
    heads, groups = c.num_attention_heads, c.num_key_value_heads
    return [
        (c.attention == "multi_head" and groups != heads,
         f"num_key_value_heads={groups}: multi_head has one per head ({heads}); use attention=grouped_query"),
        (c.attention == "multi_query" and groups != 1,
         f"num_key_value_heads={groups}: multi_query has 1; use attention=grouped_query"),
        (c.attention == "latent" and groups != heads,
         f"num_key_value_heads={groups}: latent attention shares one latent, not heads; leave it unset"),
        (heads % groups != 0,
         f"num_key_value_heads={groups}: must divide num_attention_heads={heads}; choose a divisor"),
        (c.attention_softcap is not None and c.attention_softcap <= 0,
         f"attention_softcap={c.attention_softcap}: must be above 0; leave it unset for none"),
    ]  # fmt: skip


def _patterns(c: Any) -> Findings:
    sliding, chunked = "sliding_attention" in c.layer_types, "chunked_attention" in c.layer_types
    allowed = {"full_attention", "sliding_attention", "chunked_attention"}
    return [
        (len(c.layer_types) != c.num_hidden_layers,
         f"layer_types has {len(c.layer_types)} entries: must have one for each of the {c.num_hidden_layers} layers"),
        (not set(c.layer_types) <= allowed,
         f"layer_types={sorted(set(c.layer_types) - allowed)}: must be among {', '.join(sorted(allowed))}"),
        (sliding and not c.sliding_window,
         f"sliding_window={c.sliding_window}: sliding layers need a number of tokens; set it"),
        (bool(c.sliding_window) and not sliding,
         f"sliding_window={c.sliding_window}: no layer slides; set pattern=sliding or interleaved, or unset it"),
        (sliding and (c.sliding_window or 2) < 2,
         f"sliding_window={c.sliding_window}: must be at least 2, the token and one before it"),
        (chunked and not c.attention_chunk_size,
         "attention_chunk_size=None: chunked layers need a number of tokens; set it"),
        (c.pattern == "block_sparse" and (c.sparse_block_size < 1 or c.sparse_local_blocks < 1),
         f"sparse_local_blocks={c.sparse_local_blocks}: a block must see itself; use at least 1 of at least 1 token"),
        (c.pattern == "block_sparse" and (sliding or chunked),
         "pattern=block_sparse: its blocks are the window already; leave layer_types unset"),
    ]  # fmt: skip


def _positions(c: Any) -> Findings:
    rope, scaled = c.positions == "rope", c.rope_scaling_kind != "none"
    turned = c.qk_rope_head_dim if c.attention == "latent" else int(c.head_dim * c.rope_fraction)
    needs_original = c.rope_scaling_kind in ("yarn", "llama3")
    return [
        (scaled and not rope, f"rope_scaling_kind={c.rope_scaling_kind}: positions={c.positions} has nothing to scale"),
        (c.rope_layers is not None and (not rope or len(c.rope_layers) != c.num_hidden_layers),
         f"rope_layers={c.rope_layers}: needs positions=rope and one entry for each of {c.num_hidden_layers} layers"),
        (rope and turned % 2 == 1, f"head_dim={c.head_dim}: RoPE turns pairs; {turned} values are odd"),
        (scaled and c.rope_factor < 1, f"rope_factor={c.rope_factor}: must be at least 1, the growth of the context"),
        (needs_original and not c.rope_original_context,
         f"rope_original_context=None: {c.rope_scaling_kind} needs the context before the growth, in tokens"),
        (c.positions == "sinusoidal" and c.hidden_size % 2 == 1,
         f"hidden_size={c.hidden_size}: sinusoidal positions pair sines with cosines; use an even size"),
        (c.positions == "t5" and c.relative_buckets < 4,
         f"relative_buckets={c.relative_buckets}: must be at least 4, near and far on both sides"),
    ]  # fmt: skip


def _norms(c: Any) -> Findings:
    return [
        (c.parallel_residual and c.norm_position != "pre",
         f"norm_position={c.norm_position}: parallel branches share one norm before them; use pre"),
        (c.norm_unit_offset and c.norm != "rms", f"norm_unit_offset with norm={c.norm}: only RMSNorm stores it so"),
        (c.qk_norm != "none" and c.attention == "latent",
         f"qk_norm={c.qk_norm}: latent attention norms its latents already; use none"),
    ]  # fmt: skip


def _experts(c: Any) -> Findings:
    if c.num_experts == 0:
        used = [name for name in ("shared_experts", "router_bias", "balance_loss", "z_loss") if getattr(c, name)]
        return [
            (bool(used), f"{', '.join(used)} with num_experts=0: there is no router; set num_experts"),
            (c.capacity_factor is not None, "capacity_factor with num_experts=0: there is no router; set num_experts"),
        ]
    chosen, groups = c.experts_per_token, c.router_groups
    size = c.num_experts // max(1, groups)
    return [
        (not 1 <= chosen <= c.num_experts,
         f"experts_per_token={chosen}: must be from 1 to num_experts={c.num_experts}"),
        (groups < 1 or c.num_experts % groups != 0,
         f"router_groups={groups}: must divide num_experts={c.num_experts}"),
        (not 1 <= c.router_top_groups <= groups or chosen > c.router_top_groups * size,
         f"router_top_groups={c.router_top_groups}: must be from 1 to {groups} and hold {chosen} experts"),
        (c.router_group_score == "top2" and groups > 1 and size < 2,
         f"router_groups={groups}: groups of {size} have no two best experts; use router_group_score=max"),
        (c.capacity_factor is not None and c.capacity_factor <= 0,
         f"capacity_factor={c.capacity_factor}: must be above 0; leave it unset for dropless"),
        (c.feed_forward_bias, "feed_forward_bias with experts: experts have no biases; set it to false"),
        (c.router_score == "softmax" and c.router_normalise and chosen == 1,
         "router_normalise with experts_per_token=1: the weight would always be 1 and the router untrained; set false"),
    ]  # fmt: skip


def _shapes(c: Any) -> Findings:
    seq2seq, encoder = c.shape == "encoder_decoder", c.shape == "encoder"
    return [
        (encoder and c.multi_token_layers > 0,
         f"multi_token_layers={c.multi_token_layers}: an encoder predicts no next token; use shape=decoder"),
        (seq2seq and c.multi_token_layers > 0,
         f"multi_token_layers={c.multi_token_layers}: only defined for shape=decoder"),
        (seq2seq and c.attention == "latent", "attention=latent: only defined for shape=decoder; use grouped_query"),
        (seq2seq and c.parallel_residual,
         "parallel_residual: cross-attention reads what self-attention wrote; use shape=decoder"),
        (encoder and c.attention == "latent", "attention=latent: its gain is a small cache, which encoders lack"),
        (encoder and "chunked_attention" in c.layer_types,
         "chunked_attention: defined for causal layers; use sliding_attention in an encoder"),
        (not encoder and (c.pooler or c.mlm_transform), "pooler and mlm_transform: parts of an encoder; shape=encoder"),
    ]  # fmt: skip


def _latent(c: Any) -> Findings:
    return [
        (c.attention == "latent" and c.positions in ("alibi", "t5"),
         f"positions={c.positions}: latent attention keeps positions in its rotated part; use rope"),
        (c.attention == "latent" and c.attention_bias,
         "attention_bias: latent attention has no biases; set it to false"),
    ]  # fmt: skip


def _low_rank(c: Any) -> Findings:
    low = c.pattern == "low_rank"
    return [
        (low and c.shape != "encoder",
         f"shape={c.shape}: low_rank mixes all positions, so that a token would see the future; use shape=encoder"),
        (low and c.positions in ("alibi", "t5"),
         f"positions={c.positions}: projected keys have no distance to a query; use learned, sinusoidal or rope"),
        (low and c.low_rank_size > c.max_position_embeddings,
         f"low_rank_size={c.low_rank_size}: must be at most max_position_embeddings={c.max_position_embeddings}"),
    ]  # fmt: skip

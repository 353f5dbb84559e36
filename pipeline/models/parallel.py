"""Which weights tensor parallelism divides, by the styles of transformers (arXiv:1909.08053).

Heads and the width of the feed-forward go to the ranks in equal parts: projections into them are split by columns, out
of them by rows. Attention stays whole on every rank where its heads share something that cannot be divided.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import ProvetuneConfig


def tensor_parallel_plan(config: "ProvetuneConfig") -> dict[str, str]:
    """Style of each module of a stack of layers."""
    biased = config.positions in ("alibi", "t5")  # a bias of the scores for each head, made for all of them
    shared = config.num_key_value_heads == 1 and config.attention != "latent"
    whole = biased or shared or config.pattern == "low_rank" or config.shape == "encoder_decoder"
    attention = {} if whole else _attention(config)
    return {f"layers.*.{module}": style for module, style in (attention | _feed_forward(config)).items()}


def _attention(config: "ProvetuneConfig") -> dict[str, str]:
    if config.attention == "latent":
        plan = {"q_b_proj" if config.q_lora_rank else "q_proj": "colwise"}
        plan |= {"kv_a_proj": "mla_kv_a_proj", "kv_b_proj": "colwise"}
    else:
        plan = {"q_proj": "colwise", "k_proj": "colwise", "v_proj": "colwise"}
    if config.qk_norm == "head":  # each rank norms its own heads: the parts of the gradient are summed
        plan |= {"q_norm": "replicated_with_grad_allreduce", "k_norm": "replicated_with_grad_allreduce"}
    return {f"self_attn.{module}": style for module, style in (plan | {"o_proj": "rowwise"}).items()}


def _feed_forward(config: "ProvetuneConfig") -> dict[str, str]:
    dense = ({"gate_proj": "colwise"} if config.gated else {}) | {"up_proj": "colwise", "down_proj": "rowwise"}
    mixed = [config.has_experts(layer) for layer in range(config.num_hidden_layers)]
    plan = {} if all(mixed) else {f"mlp.{module}": style for module, style in dense.items()}
    if any(mixed):
        up = "packed_colwise" if config.gated else "colwise"
        plan |= {"mlp.experts.gate_up_proj": up, "mlp.experts.down_proj": "rowwise", "mlp.experts": "moe_tp_experts"}
        if config.shared_experts:
            plan |= {f"mlp.shared.{module}": style for module, style in dense.items()}
    return plan

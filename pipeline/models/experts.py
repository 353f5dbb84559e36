"""Mixtures of experts: a router chooses k of E feed-forwards for each token.

Switch arXiv:2101.03961, Mixtral arXiv:2401.04088, DeepSeekMoE arXiv:2401.06066, balance by bias arXiv:2408.15664,
z-loss arXiv:2202.08906. N = B·T tokens, C hidden size, F size of an expert.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ProvetuneConfig
from .feed_forward import FeedForward, activation, gate


class Router(nn.Module):
    """Scores every expert for a token and keeps the best k."""

    bias: Tensor | None
    load: Tensor

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("bias", torch.zeros(config.num_experts) if config.router_bias else None)
        self.register_buffer("load", torch.zeros(config.num_experts), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, C) → logits (N, E), weights (N, k) and indices (N, k) of the chosen experts, in float32."""
        config = self.config
        logits = F.linear(x.float(), self.weight.float())
        scores = logits.softmax(-1) if config.router_score == "softmax" else logits.sigmoid()
        choice = scores if self.bias is None else scores + self.bias
        if config.router_groups > 1:
            choice = self._limit_groups(choice)
        weights, indices = choice.topk(config.experts_per_token, -1)
        if choice is not scores:
            weights = scores.gather(-1, indices)
        if config.router_normalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        if self.bias is not None and self.training:
            self.load += torch.bincount(indices.flatten(), minlength=config.num_experts)
        return logits, weights if config.router_scale == 1.0 else weights * config.router_scale, indices

    def _limit_groups(self, choice: Tensor) -> Tensor:
        """Only experts of the best groups stay eligible, so that a token reaches few machines; (N, E) → (N, E)."""
        config = self.config
        grouped = choice.unflatten(-1, (config.router_groups, -1))  # (N, G, E/G)
        best = grouped.topk(2, -1).values.sum(-1) if config.router_group_score == "top2" else grouped.amax(-1)
        chosen = best.topk(config.router_top_groups, -1).indices  # (N, top groups)
        out = torch.ones_like(best, dtype=torch.bool).scatter_(-1, chosen, False)  # (N, G)
        return grouped.masked_fill(out[..., None], float("-inf")).flatten(-2)


class Experts(nn.Module):
    """E feed-forwards in two stacked weights; each works once, on all its tokens side by side."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__()
        size = config.expert_intermediate_size or config.intermediate_size
        width = 2 * size if config.gated else size
        self.num_experts, self.weights_input, self.gated = config.num_experts, config.router_weights_input, config.gated
        self.capacity_factor = config.capacity_factor
        self.gate_up_proj = nn.Parameter(torch.empty(config.num_experts, width, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(config.num_experts, config.hidden_size, size))
        self.act = activation(config)

    def forward(self, x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """x (N, C) with chosen experts and weights (N, k) → (N, C); dropped tokens get zeros."""
        tokens, chosen = x.shape[0], indices.shape[1]
        order = indices.flatten().argsort(stable=True)  # (N·k), sorted by expert, then by token
        counts = torch.bincount(indices.flatten(), minlength=self.num_experts)  # (E,)
        if self.capacity_factor is not None:
            order, counts = self._drop(order, counts, tokens * chosen)
        source = order // chosen
        weight = weights.flatten()[order, None].to(x.dtype)  # (N·k, 1)
        grouped = x[source]  # (N·k, C)
        if self.weights_input:
            grouped = grouped * weight
        mixed = self._all(grouped, counts)
        if not self.weights_input:
            mixed = mixed * weight
        return torch.zeros_like(x).index_add_(0, source, mixed.to(x.dtype))

    def _drop(self, order: Tensor, counts: Tensor, assignments: int) -> tuple[Tensor, Tensor]:
        """Keep the first `capacity` tokens of each expert."""
        assert self.capacity_factor is not None
        capacity = max(1, int(-(-self.capacity_factor * assignments // self.num_experts)))
        starts = counts.cumsum(0) - counts
        rank = torch.arange(assignments, device=order.device) - starts.repeat_interleave(counts)
        return order[rank < capacity], counts.clamp(max=capacity)

    def _all(self, grouped: Tensor, counts: Tensor) -> Tensor:
        """Tokens sorted by expert (M, C) → (M, C)."""
        if self._aligned and not (torch.compiler.is_compiling() and grouped.dtype != torch.bfloat16):
            ends, kind = counts.cumsum(0).to(torch.int32), self.gate_up_proj.dtype
            inner = self._activate(F.grouped_mm(grouped.to(kind), self.gate_up_proj.mT, offs=ends))
            return F.grouped_mm(inner, self.down_proj.mT, offs=ends)
        sizes = counts.tolist()
        first, last = self.gate_up_proj.unbind(0), self.down_proj.unbind(0)
        parts = zip(grouped.split(sizes), first, last, sizes, strict=True)
        return torch.cat([F.linear(self._activate(F.linear(x, up)), down) for x, up, down, size in parts if size])

    @property
    def _aligned(self) -> bool:
        """torch multiplies groups in one call when rows start at multiples of 16 bytes."""
        stored = (self.gate_up_proj, self.down_proj)
        return all(weight.shape[-1] * weight.element_size() % 16 == 0 for weight in stored)

    def _activate(self, x: Tensor) -> Tensor:
        return gate(self.act, *x.chunk(2, -1)) if self.gated else self.act(x)


class MixtureOfExperts(nn.Module):
    """Router, experts, and a feed-forward that every token shares."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__()
        self.config = config
        size = config.expert_intermediate_size or config.intermediate_size
        self.router, self.experts = Router(config), Experts(config)
        self.shared = FeedForward(config, size * config.shared_experts) if config.shared_experts else None

    def forward(self, x: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C), `real` (B, T) false for padding → (B, T, C) and, when training, the router's loss."""
        flat = x.flatten(0, 1)
        logits, weights, indices = self.router(flat)
        mixed = self.experts(flat, indices, weights).view_as(x)
        if self.shared is not None:
            mixed = mixed + self.shared(x)
        return mixed, self._loss(logits, indices, real) if self.training else None

    def _loss(self, logits: Tensor, indices: Tensor, real: Tensor | None) -> Tensor | None:
        config = self.config
        if config.balance_loss == 0 and config.z_loss == 0:
            return None
        if real is not None:
            logits, indices = logits[real.flatten()], indices[real.flatten()]
        total = config.z_loss * z_loss(logits)
        if config.balance_loss:
            scores = logits.softmax(-1) if config.router_score == "softmax" else logits.sigmoid()
            total = total + config.balance_loss * balance_loss(scores / scores.sum(-1, keepdim=True), indices)
        return total


def balance_loss(probabilities: Tensor, indices: Tensor) -> Tensor:
    """E·Σ fᵢ·Pᵢ: share of the choices (N, k) times mean probability (N, E) of each expert; 1 when all is equal."""
    experts = probabilities.shape[-1]
    share = torch.bincount(indices.flatten(), minlength=experts) / indices.numel()  # (E,)
    return experts * (share * probabilities.mean(0)).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Mean square of log Σ exp over the experts: keeps the router's logits (N, E) small."""
    return logits.logsumexp(-1).square().mean()


@torch.no_grad()
def balance_experts(model: nn.Module) -> None:
    """After an optimiser step: move each router's bias a step against the load since the last call, over all ranks."""
    for router in model.modules():
        if isinstance(router, Router) and router.bias is not None:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(router.load)
            router.bias += router.config.router_bias_rate * torch.sign(router.load.mean() - router.load)
            router.load.zero_()

"""The feed-forward of a layer and its activations, (B, T, C) → (B, T, C).

GELU arXiv:1606.08415, Swish arXiv:1710.05941, gated units (GLU, ReGLU, GeGLU, SwiGLU) arXiv:2002.05202.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ProvetuneConfig
from .start import residual_scale, scaled


def gelu_sigmoid(x: Tensor) -> Tensor:
    """x·σ(1.702x), the approximation of the GELU that GPT-1's paper era used."""
    return x * torch.sigmoid(1.702 * x)


def swish(x: Tensor, beta: float) -> Tensor:
    """x·σ(βx)."""
    return x * torch.sigmoid(beta * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_sigmoid": gelu_sigmoid,
    "silu": F.silu,
    "glu": torch.sigmoid,
    "reglu": F.relu,
    "geglu": F.gelu,
    "geglu_tanh": partial(F.gelu, approximate="tanh"),
    "swiglu": F.silu,
}


def activation(config: ProvetuneConfig) -> Callable[[Tensor], Tensor]:
    """The function between the projections; of a gated unit, the gate's."""
    if config.feed_forward == "swish":
        return partial(swish, beta=config.swish_beta)
    return ACTIVATIONS[config.feed_forward]


class _LeanSwiGLU(torch.autograd.Function):
    """silu(gate)·up that computes silu(gate) again in the backward pass instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, gated: Tensor, up: Tensor) -> Tensor:
        """Both (…, F)."""
        ctx.save_for_backward(gated, up)
        return F.silu(gated).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        """Gradients of both."""
        gated, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gated), F.silu(gated).mul_(gradient)


def gate(act: Callable[[Tensor], Tensor], gated: Tensor, up: Tensor) -> Tensor:
    """act(gated)·up, both (…, F)."""
    if act is F.silu and gated.device.type == "cpu" and torch.is_grad_enabled():
        return _LeanSwiGLU.apply(gated, up)  # pyright: ignore
    return act(gated) * up


class FeedForward(nn.Module):
    """down(act(up x)), or gated: down(act(gate x) · up x)."""

    def __init__(self, config: ProvetuneConfig, size: int) -> None:
        super().__init__()
        bias = config.feed_forward_bias
        self.gate_proj = nn.Linear(config.hidden_size, size, bias=bias) if config.gated else None
        self.up_proj = nn.Linear(config.hidden_size, size, bias=bias)
        self.down_proj = scaled(nn.Linear(size, config.hidden_size, bias=bias), residual_scale(config))
        self.act = activation(config)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        if self.gate_proj is None:
            return self.down_proj(self.act(self.up_proj(x)))
        return self.down_proj(gate(self.act, self.gate_proj(x), self.up_proj(x)))

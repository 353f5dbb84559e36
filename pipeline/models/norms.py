"""LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467); both keep the shape (…, size)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ProvetuneConfig


class _LeanRMSNorm(torch.autograd.Function):
    """RMSNorm that keeps only its input for the backward pass, where torch's own on a CPU keeps the result too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x (…, size), weight (size,), both float32."""
        scale = (torch.linalg.vecdot(x, x)[..., None] / x.shape[-1] + eps).rsqrt()  # (…, 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore
        """Gradients of x and of the weight."""
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        for_weight = (gradient * normed).flatten(0, -2).sum(0)
        inner = gradient * weight
        along = torch.linalg.vecdot(inner, normed)[..., None] / x.shape[-1]
        return inner.sub_(normed.mul_(along)).mul_(scale), for_weight, None


class RMSNorm(nn.Module):
    """x / √(mean x² + eps) · weight, computed in float32; Gemma stores the weight as its distance from 1."""

    def __init__(self, size: int, eps: float, unit_offset: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if unit_offset else torch.ones(size))
        self.eps, self.unit_offset = eps, unit_offset

    def forward(self, x: Tensor) -> Tensor:
        """(…, size) → (…, size) in the input's dtype."""
        weight = 1.0 + self.weight.float() if self.unit_offset else self.weight.float()
        if x.device.type == "cpu" and torch.is_grad_enabled():
            return _LeanRMSNorm.apply(x.float(), weight, self.eps).to(x.dtype)  # pyright: ignore
        return F.rms_norm(x.float(), weight.shape, weight, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """Size and epsilon, as torch prints modules."""
        return f"{self.weight.shape[0]}, eps={self.eps}"


def l2_norm(x: Tensor, eps: float) -> Tensor:
    """Root mean square 1 over the last dimension, without weights."""
    return F.rms_norm(x.float(), x.shape[-1:], None, eps).to(x.dtype)


def make_norm(config: ProvetuneConfig, size: int | None = None) -> nn.Module:
    """The configuration's norm over `size` values, the hidden size when unset."""
    size = size or config.hidden_size
    if config.norm == "layer":
        return nn.LayerNorm(size, eps=config.norm_eps)
    return RMSNorm(size, config.norm_eps, config.norm_unit_offset)

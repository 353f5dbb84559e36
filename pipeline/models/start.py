"""How large weights start: a module may carry its own factor of `initializer_range`."""

from typing import TypeVar

from torch import nn

from .config import ProvetuneConfig

Kind = TypeVar("Kind", bound=nn.Module)


def scaled(module: Kind, scale: float) -> Kind:
    """The module, to start `scale` times as large."""
    module.__dict__["start_scale"] = scale
    return module


def start_scale(module: nn.Module) -> float:
    """Its factor, 1 unless `scaled`."""
    return module.__dict__.get("start_scale", 1.0)


def residual_scale(config: ProvetuneConfig) -> float:
    """Factor of what writes to the residual stream, so that its variance does not grow with depth (GPT-2)."""
    return (2 * config.num_hidden_layers) ** -0.5 if config.scale_residual_init else 1.0

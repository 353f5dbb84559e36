"""Where a token stands: rotary, sinusoidal and relative positions, ALiBi.

RoPE arXiv:2104.09864; linear scaling arXiv:2306.15595; YaRN arXiv:2309.00071; ALiBi arXiv:2108.12409;
T5's relative bias arXiv:1910.10683; sinusoids arXiv:1706.03762. Positions are counted in tokens.
"""

import math

import torch
from torch import Tensor, nn

from .config import ProvetuneConfig

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each (B, 1, T, R/2) for R rotated values of a head."""


def rope_frequencies(config: ProvetuneConfig, local: bool) -> tuple[Tensor, float]:
    """Radians per token of each pair, (R/2,), and the factor of cosine and sine; sliding layers are never scaled."""
    if config.attention == "latent":
        rotated = config.qk_rope_head_dim
    else:
        assert config.head_dim is not None
        rotated = int(config.head_dim * config.rope_fraction)
    base = config.rope_theta_local if local and config.rope_theta_local else config.rope_theta
    exponents = torch.arange(0, rotated, 2, dtype=torch.float32) / rotated  # (R/2,)
    frequencies = base**-exponents
    if config.rope_scaling_kind == "none" or (local and config.rope_theta_local):
        return 1.0 / base**exponents, 1.0
    if config.rope_scaling_kind == "linear":
        return 1.0 / base**exponents / config.rope_factor, 1.0
    if config.rope_scaling_kind == "ntk":
        return (base * config.rope_factor ** (rotated / (rotated - 2))) ** -exponents, 1.0
    if config.rope_scaling_kind == "llama3":
        return _llama3(config, frequencies), 1.0
    return _yarn(config, frequencies, base)


def _llama3(config: ProvetuneConfig, frequencies: Tensor) -> Tensor:
    """Slow pairs are stretched, fast ones kept, those between blended (Llama 3.1)."""
    assert config.rope_original_context is not None
    turns = config.rope_original_context * frequencies / (2 * math.pi)  # in the original context
    low, high = config.rope_low_freq_factor, config.rope_high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / config.rope_factor


def _yarn(config: ProvetuneConfig, frequencies: Tensor, base: float) -> tuple[Tensor, float]:
    """Interpolate pairs that turn less than beta_slow times in the original context, keep those above beta_fast."""
    assert config.rope_original_context is not None
    half = len(frequencies)

    def pair_of(turns: float) -> float:
        return half * math.log(config.rope_original_context / (turns * 2 * math.pi)) / math.log(base)  # type: ignore[operator]

    low = max(math.floor(pair_of(config.rope_beta_fast)), 0)
    high = min(math.ceil(pair_of(config.rope_beta_slow)), 2 * half - 1)
    ramp = ((torch.arange(half, dtype=torch.float32) - low) / max(high - low, 1e-3)).clamp(0, 1)
    factor = config.rope_attention_factor
    if factor is None:
        factor = 0.1 * math.log(config.rope_factor) + 1.0 if config.rope_factor > 1 else 1.0
    return frequencies * (1 - ramp) + frequencies / config.rope_factor * ramp, factor


class Rotary(nn.Module):
    """Cosines and sines for the positions of one forward pass, shared by all layers of a kind."""

    frequencies: Tensor

    def __init__(self, config: ProvetuneConfig, local: bool) -> None:
        super().__init__()
        self.config, self.local = config, local
        frequencies, self.factor = rope_frequencies(config, local)
        self.register_buffer("frequencies", frequencies, persistent=False)

    @torch.no_grad()
    def forward(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """Positions (B, T) in tokens → cosines and sines (B, 1, T, R/2) in `dtype`, computed in float32."""
        angles = positions[:, None, :, None].float() * self.frequencies.float()  # (B, 1, T, R/2)
        return (angles.cos() * self.factor).to(dtype), (angles.sin() * self.factor).to(dtype)


def rotate(x: Tensor, rotation: Rotation, pairs: str) -> Tensor:
    """Turn the first R values of each head; (B, H, T, D) → (B, H, T, D).

    Neighbouring pairs leave as halves: queries and keys are permuted alike, so that their products stay the same.
    """
    cosine, sine = rotation
    rotated = 2 * cosine.shape[-1]
    turning, still = (x, None) if rotated == x.shape[-1] else (x[..., :rotated], x[..., rotated:])
    first, second = turning.chunk(2, -1) if pairs == "halves" else (turning[..., 0::2], turning[..., 1::2])
    parts = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(parts if still is None else [*parts, still], -1)


def sinusoids(positions: Tensor, size: int) -> Tensor:
    """Sines and cosines, interleaved, of geometric wavelengths; positions (B, T) → (B, T, size)."""
    wavelengths = 10_000 ** (torch.arange(0, size, 2, device=positions.device) / size)  # (size/2,)
    angles = positions[..., None].float() / wavelengths
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def alibi_slopes(heads: int) -> Tensor:
    """Penalty per token of distance for each head, (H,): geometric, between powers of two every other one."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / whole) for head in range(whole)]
    slopes += [2 ** (-4 * (2 * head + 1) / whole) for head in range(heads - whole)]
    return torch.tensor(slopes)


def alibi(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Slots of queries (T,) and keys (S,) → score biases (1, H, T, S): minus slope times distance."""
    distance = (queries[:, None] - keys[None, :]).abs()  # (T, S)
    return -alibi_slopes(heads).to(queries.device)[None, :, None, None] * distance


class RelativeBias(nn.Module):
    """T5: a learned bias per head for each bucket of distances, exact when near, logarithmic when far."""

    def __init__(self, config: ProvetuneConfig, causal: bool) -> None:
        super().__init__()
        self.causal, self.buckets, self.farthest = causal, config.relative_buckets, config.relative_max_distance
        self.table = nn.Embedding(config.relative_buckets, config.num_attention_heads)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Slots of queries (T,) and keys (S,) → score biases (1, H, T, S)."""
        ahead = keys[None, :] - queries[:, None]  # (T, S)
        return self.table(self._bucket(ahead)).permute(2, 0, 1)[None]

    def _bucket(self, ahead: Tensor) -> Tensor:
        buckets, offset = self.buckets, torch.zeros_like(ahead)
        if self.causal:
            distance = -ahead.clamp(max=0)
        else:
            buckets //= 2
            offset, distance = (ahead > 0) * buckets, ahead.abs()
        exact = buckets // 2
        far = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.farthest / exact) * (buckets - exact)
        return offset + torch.where(distance < exact, distance, (exact + far.long()).clamp(max=buckets - 1))

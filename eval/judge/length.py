"""The length-controlled win rate: what the win rate would be if both answers were equally long.

A logistic model of the preference y in [0, 1] of each prompt, as AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475)
but without anything that has to be downloaded (their term for the difficulty of known prompts, their pseudo-data):

    logit P = constant + slope · tanh(Δ / sd(Δ)),    Δ = characters of the tuned answer - those of the base's

The win rate at Δ = 0 is sigmoid(constant). The constant is not penalised. The slope carries a ridge: what is minimised
is the mean log-loss + penalty / 2 · slope². A slope without one does not measure the judge's taste for length alone:
the longer answers of a weak model are also its better ones, so that it takes merit away or gives it for nothing.
`tests/benchmarks/judge.py` shows how the default penalty was found and what it does to models it was not found on.

Shapes: N prompts, R weightings of them.
"""

from typing import NamedTuple

import numpy as np

_STEPS = 60
_TOLERANCE = 1e-7  # of the last step: Newton's next one would be its square
_LARGEST_STEP = 3.0


class LengthFit(NamedTuple):
    """Of each weighting: the win rate at equal length, and the slope; both (R,)."""

    win_rate: np.ndarray
    slope: np.ndarray


def fit_length(
    delta: np.ndarray, preference: np.ndarray, penalty: float, weights: np.ndarray | None = None
) -> LengthFit:
    """The model of delta in characters and preference in [0, 1], both (N,) or (R, N), under weights (N,) or (R, N).

    Where all answers are equally long, all won or all lost, the win rate is the plain one and the slope 0.
    """
    delta, preference = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (delta, preference))
    given = np.ones(delta.shape) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
    share = given / given.sum(axis=1, keepdims=True)
    plain = (share * preference).sum(axis=1)
    x = _standardised(delta, share)
    fitted = (plain > 0) & (plain < 1) & (np.abs(x).max(axis=1) > 0)
    win_rate, slope = plain.copy(), np.zeros(len(plain))
    if fitted.any():
        x, share = x[fitted], np.broadcast_to(share, x.shape)[fitted]
        preference = np.broadcast_to(preference, (len(plain), delta.shape[1]))[fitted]
        constant, slope[fitted] = _newton(x, preference, share, plain[fitted], penalty)
        win_rate[fitted] = _sigmoid(constant)
    return LengthFit(win_rate, slope)


def _standardised(delta: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(R, N): tanh of delta in its standard deviations; all 0 where length does not vary."""
    mean = (share * delta).sum(axis=1)
    spread = np.sqrt(np.maximum((share * delta**2).sum(axis=1) - mean**2, 0.0))
    # A constant difference has no spread beyond rounding: then length cannot be told from the constant.
    usable = spread > 1e-6 * (1 + np.abs(mean))
    scale = np.where(usable, spread, np.inf)
    return np.tanh(delta / scale[:, None])


def _newton(
    x: np.ndarray, y: np.ndarray, share: np.ndarray, plain: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Constant and slope (R,) at the minimum; the loss is strictly convex, and steps are held short on the way."""
    constant, slope = np.log(plain / (1 - plain)), np.zeros(len(plain))
    for _ in range(_STEPS):
        p = _sigmoid(constant[:, None] + slope[:, None] * x)
        error, curve = share * (p - y), share * p * (1 - p)
        g0, g1 = error.sum(axis=1), np.einsum("rn,rn->r", error, x) + penalty * slope
        h00, h01 = curve.sum(axis=1), np.einsum("rn,rn->r", curve, x)
        h11 = np.einsum("rn,rn,rn->r", curve, x, x) + penalty
        determinant = np.maximum(h00 * h11 - h01 * h01, 1e-300)
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        held = np.minimum(1.0, _LARGEST_STEP / np.maximum(np.maximum(np.abs(step0), np.abs(step1)), 1e-300))
        constant, slope = constant - held * step0, slope - held * step1
        if max(np.abs(step0).max(), np.abs(step1).max()) < _TOLERANCE:
            break
    return constant, slope


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))

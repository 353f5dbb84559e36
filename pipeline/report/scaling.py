"""Scaling laws: how the loss falls with parameters N, training tokens D and compute C = 6·N·D.

L(x) = floor + scale·x^(-exponent), fitted in the logarithm of the loss (Hoffmann et al. 2022, arXiv:2203.15556, section
3.3; Kaplan et al. 2020, arXiv:2001.08361). The largest point is always held out: a law that cannot tell the next size
is no law. Of runs with equal x the best counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["parameters", "tokens", "compute"]
AXES: Mapping[Axis, str] = {"parameters": "parameters N", "tokens": "training tokens D", "compute": "FLOPs C = 6·N·D"}
FLOPS_PER_PARAMETER_AND_TOKEN = 6
FEWEST = 4
"""Points that a law needs: three to fit its three numbers, one to hold out."""
_FLOORS, _EXPONENTS = (0.1, 0.6, 0.9), (0.1, 0.3, 0.8)


@dataclass(frozen=True)
class Point:
    """One trained model."""

    name: str
    parameters: float
    """Parameters that a token meets, embeddings included."""
    tokens: float
    """Tokens it was trained on."""
    loss: float
    """Bits per byte, or any loss that falls towards a floor."""

    def on(self, axis: Axis) -> float:
        """Its place on an axis."""
        if axis == "compute":
            return FLOPS_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens
        return self.parameters if axis == "parameters" else self.tokens


@dataclass(frozen=True)
class Law:
    """L(x) = floor + scale·(x / unit)^(-exponent); `unit` is the geometric mean of the fitted x."""

    floor: float
    scale: float
    exponent: float
    unit: float

    def __call__(self, x: float) -> float:
        """The loss that it tells for x."""
        return self.floor + self.scale * (x / self.unit) ** -self.exponent


@dataclass(frozen=True)
class Scaling:
    """A law along one axis, and how well it told the point that it did not see."""

    axis: Axis
    points: list[Point]
    """By x; the last one is held out."""
    law: Law
    predicted: float
    """Loss of the held-out point by the law."""
    low: float
    high: float
    """Least and greatest such loss when one more point is left out of the fit."""

    @property
    def held_out(self) -> Point:
        """The largest point."""
        return self.points[-1]

    @property
    def error(self) -> float:
        """How far the prediction lies above the truth, as a share of the truth."""
        return self.predicted / self.held_out.loss - 1


def scaling(points: Iterable[Point]) -> list[Scaling]:
    """The laws that the points allow: N at equal tokens, D at equal parameters, C over the best run of each compute.

    Raises ValueError when no axis has four different values.
    """
    points = list(points)
    laws = [_along(axis, _comparable(points, axis)) for axis in AXES if len(_comparable(points, axis)) >= FEWEST]
    if not laws:
        raise ValueError(
            f"{len(points)} runs: a scaling law needs at least {FEWEST} sizes at equal tokens, or {FEWEST} token "
            "counts at equal size; sweep model=ablation/size_24,… or stages.pretrain.max_steps=…"
        )
    return laws


def fit(x: Sequence[float], losses: Sequence[float]) -> Law:
    """Least squares of log loss over three or more points; the best of several starts."""
    from scipy.optimize import least_squares

    unit = float(np.exp(np.mean(np.log(x))))
    place, told = np.log(np.asarray(x) / unit), np.log(np.asarray(losses, dtype=np.float64))
    least = float(min(losses))

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        floor, log_scale, exponent = values
        return np.log(floor + np.exp(log_scale - exponent * place)) - told

    bounds = ([0.0, -np.inf, 0.0], [least, np.inf, 5.0])
    starts = [
        (share * least, np.log(max(least * (1 - share), 1e-9)), exponent)
        for share in _FLOORS
        for exponent in _EXPONENTS
    ]
    best = min((least_squares(residuals, start, bounds=bounds) for start in starts), key=lambda found: found.cost)
    floor, log_scale, exponent = (float(value) for value in best.x)
    return Law(floor, float(np.exp(log_scale)), exponent, unit)


def _comparable(points: Sequence[Point], axis: Axis) -> list[Point]:
    """The best point for each x, of the group of equal tokens (or parameters) with most values; of two the larger."""
    groups: dict[float, list[Point]] = {}
    for point in points:
        key = {"parameters": point.tokens, "tokens": point.parameters, "compute": 0.0}[axis]
        groups.setdefault(key, []).append(point)
    if not groups:
        return []
    _, group = max(groups.items(), key=lambda each: (len({point.on(axis) for point in each[1]}), each[0]))
    best: dict[float, Point] = {}
    for point in group:
        x = point.on(axis)
        if x not in best or point.loss < best[x].loss:
            best[x] = point
    ordered = [best[x] for x in sorted(best)]
    return _frontier(ordered) if axis == "compute" else ordered


def _frontier(points: Sequence[Point]) -> list[Point]:
    """The points that beat every cheaper one: what a compute can buy."""
    kept: list[Point] = []
    for point in points:
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept


def _along(axis: Axis, points: list[Point]) -> Scaling:
    seen, held = points[:-1], points[-1]
    x, losses = [point.on(axis) for point in seen], [point.loss for point in seen]
    law = fit(x, losses)
    others = [_without(x, losses, left)(held.on(axis)) for left in range(len(x)) if len(x) > FEWEST - 1]
    told = [law(held.on(axis)), *others]
    return Scaling(axis, points, law, told[0], min(told), max(told))


def _without(x: Sequence[float], losses: Sequence[float], left: int) -> Law:
    return fit([*x[:left], *x[left + 1 :]], [*losses[:left], *losses[left + 1 :]])

"""What runs will cost: hours, GPU-hours and money, from the estimates of pipeline/estimate.py, before anything starts.

An allocation is paid for while it is held, so every second of a job counts on all of its devices, also those of the
stages that need none. An artifact that several jobs of a sweep share is counted once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.estimate import estimate
from pipeline.plan import Plan


@dataclass(frozen=True)
class Expected:
    """Sums over runs; `unknown` nodes have no estimate and count as nothing."""

    hours: float
    device_hours: float
    unknown: int


def expected(plans: Sequence[Plan]) -> Expected:
    """Hours one run after the other, and hours times devices."""
    seen: set[tuple[str, str]] = set()
    hours = device_hours = 0.0
    unknown = 0
    for plan in plans:
        for step, cost in zip(plan.steps, estimate(plan), strict=True):
            key = (step.node.kind, step.node.fingerprint)
            if key in seen or step.state == "cached":
                continue
            seen.add(key)
            unknown += cost.seconds is None
            hours += (cost.seconds or 0.0) / 3600
            device_hours += (cost.seconds or 0.0) / 3600 * plan.config.launch.processes
    return Expected(hours, device_hours, unknown)


def cost_lines(plans: Sequence[Plan]) -> list[str]:
    """The expectation in words, and a warning where it is above the budget."""
    total = expected(plans)
    launch, budget = plans[0].config.launch, plans[0].config.budget
    unit = "GPU-hours" if launch.on_gpus else "process-hours"
    runs = f"{len(plans)} jobs, shared artifacts once: " if len(plans) > 1 else ""
    line = f"expected: {runs}{_short(total.hours)} h, {_short(total.device_hours)} {unit}"
    if launch.price_per_gpu_hour is None:
        return [line + _gaps(total)]
    price = total.device_hours * launch.price_per_gpu_hour
    lines = [f"{line}, {price:,.2f} at {launch.price_per_gpu_hour:g} per hour{_gaps(total)}"]
    if budget is not None and price > budget:
        lines.append(
            f"warning: {price:,.2f} is above the budget of {budget:,.2f}; fewer points or steps, or raise budget"
        )
    return lines


def _gaps(total: Expected) -> str:
    return f" (and {total.unknown} nodes of unknown cost)" if total.unknown else ""


def _short(hours: float) -> str:
    return f"{hours:.4f}" if hours < 0.1 else f"{hours:,.2f}"

"""What a result cost: time, tokens, memory as estimated and as measured, energy with its source."""

from typing import NamedTuple

from pipeline.report.formatting import MISSING, count, duration, number, percent, signed, size
from pipeline.report.schema import Report, Stage

_LARGE = 2**30
"""Bytes: the plan of a stage without a model is one flat figure, which says nothing when it is off."""


class CostRow(NamedTuple):
    """One stage as a row of text, with its bar in percent of the longest stage."""

    stage: Stage
    bar: float
    memory: str
    """Measured, with how far it lay from the plan."""
    energy: str


def cost_rows(stages: list[Stage]) -> list[CostRow]:
    """Every stage, in the order of the run."""
    longest = max((stage.seconds or 0.0 for stage in stages), default=0.0)
    return [
        CostRow(
            stage,
            round(100 * (stage.seconds or 0.0) / longest, 2) if longest else 0.0,
            _measured(stage),
            energy(stage),
        )
        for stage in stages
    ]


def _measured(stage: Stage) -> str:
    is_large = (stage.estimated_memory_bytes or 0) >= _LARGE
    return size(stage.peak_memory_bytes) + (
        f", {against_estimate(stage)}" if is_large and stage.peak_memory_bytes else ""
    )


def against_estimate(stage: Stage) -> str:
    """How far the peak memory lay from what the plan told, as a share of the plan's figure."""
    told, peak = stage.estimated_memory_bytes, stage.peak_memory_bytes
    return f"{signed(100 * (peak / told - 1), 0)} %" if told and peak else MISSING


def energy(stage: Stage) -> str:
    """Kilowatt hours of one stage."""
    known = stage.energy
    return kwh(known.kwh) if known and known.kwh is not None else MISSING


def kwh(value: float) -> str:
    """Energy in the unit that shows it: `12.3 Wh`, `1.23 kWh`."""
    return f"{number(value * 1000, 3 if value >= 1e-3 else 2)} Wh" if value < 1 else f"{number(value, 3)} kWh"


def cost_facts(report: Report) -> list[tuple[str, str]]:
    """The run's cost in (name, text): what every stage took when it was made, cached ones included."""
    stages = report.stages
    trained = [stage for stage in stages if stage.name.endswith("/train")]
    peak = max(trained or stages, key=lambda stage: stage.peak_memory_bytes or 0.0, default=None)
    facts = [
        ("This run", duration(report.run.seconds)),
        ("Training", duration(_total([stage.seconds for stage in trained]))),
        ("Tokens trained on", count(_total([stage.tokens for stage in trained]))),
        ("Training speed", _speed(trained)),
        ("Peak memory" + (f", {peak.name}" if peak else ""), _memory(peak)),
        ("Energy", _energy(stages)),
        ("Emissions", _emissions(stages)),
    ]
    return [(name, text) for name, text in facts if text != MISSING]


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _speed(trained: list[Stage]) -> str:
    known = [stage.tokens_per_second for stage in trained if stage.tokens_per_second]
    return f"{number(known[-1], 3)} tokens/s" if known else MISSING


def _memory(stage: Stage | None) -> str:
    if stage is None or stage.peak_memory_bytes is None:
        return MISSING
    told = stage.estimated_memory_bytes
    plan = f" (the plan said {size(told)}, {against_estimate(stage)})" if told else ""
    return size(stage.peak_memory_bytes) + plan


def _energy(stages: list[Stage]) -> str:
    """The sum with how it was known; what is not known of some stages is said."""
    known = [
        (stage.energy.kwh, stage.energy.source) for stage in stages if stage.energy and stage.energy.kwh is not None
    ]
    if not known:
        return MISSING
    sources = sorted({source or "of unknown source" for _, source in known})
    missing = len(stages) - len(known)
    part = f", without {missing} stage{'s' if missing > 1 else ''} of unknown energy" if missing else ""
    return f"{kwh(sum(value for value, _ in known))}, {' and '.join(sources)}{part}"


def _emissions(stages: list[Stage]) -> str:
    known = [stage.energy for stage in stages if stage.energy and stage.energy.emissions_kg is not None]
    if not known:
        return MISSING
    grids = sorted({each.grid for each in known if each.grid})
    where = f" (grid: {', '.join(grids)})" if grids else ""
    return f"{number(sum(each.emissions_kg or 0.0 for each in known) * 1000, 3)} g CO₂e{where}"


def relative(base: float | None, difference: float | None) -> str:
    """A change as a share of the base value; nothing where that has no meaning."""
    if base is None or difference is None or base <= 0:
        return ""
    return f"{'+' if difference > 0 else ''}{percent(difference / base)}"

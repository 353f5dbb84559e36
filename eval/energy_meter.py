"""The process that meters: started by `eval.energy` as a file, so that it imports codecarbon and nothing of ours.

It answers every line on standard input with a JSON line: the energy since the line before. It ends with its input.
"""

import json
import logging
import os
import select
import sys
from collections.abc import Iterable, Iterator
from typing import Any

COUNTERS = ("intel_rapl", "windows_emi", "intel_power_gadget")
"""How codecarbon names processors whose energy is counted; any other way is a guess from load and type."""
MEASURED_PARTS = ("GPU", "AppleSiliconChip", "Raspberry")
LOOK_EVERY = 60.0
"""Seconds after which the counters are read even when nobody asks: they start anew after some tens of minutes."""


def readings(country: str | None, asked: Iterable[int]) -> Iterator[dict[str, Any]]:
    """For each question the energy since the one before: {"kwh", "emissions_kg", "seconds", "source"}.

    `asked`: how many questions have come each time that the counters are to be read. `source` is "measured" where the
    hardware itself counted the energy of processor and GPU (memory is always a guess), else "estimated". Nothing is
    looked up over the network: the carbon of the grid is given. Before the first comes {"ready": true}.
    """
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        force_carbon_intensity_g_co2e_kwh=carbon_intensity(country),
        tracking_mode="machine",
        output_methods=[],
        output_handlers=[],
        emissions_endpoint=None,
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start_task("0")
    source = "measured" if _counted(tracker) else "estimated"
    nothing = {"kwh": 0.0, "emissions_kg": 0.0, "seconds": 0.0, "source": source}
    total = dict(nothing)
    yield {"ready": True}
    for number, questions in enumerate(asked, start=1):
        found = tracker.stop_task(str(number - 1))
        tracker.start_task(str(number))
        total["kwh"] += found.energy_consumed
        total["emissions_kg"] += found.emissions
        total["seconds"] += found.duration
        for _ in range(questions):
            yield total
            total = dict(nothing)


def carbon_intensity(country: str | None) -> float:
    """Grams of CO2 per kWh of a country's grid (ISO 3166 code of three letters); of the world without one."""
    from codecarbon.input import DataSource

    if country is None:
        return float(DataSource().get_carbon_intensity_per_source_data()["world_average"])
    return float(DataSource().get_global_energy_mix_data()[country]["carbon_intensity"])


def _counted(tracker: Any) -> bool:
    """Whether all but the memory is measured by the hardware itself."""
    parts = [part for part in tracker._hardware if type(part).__name__ != "RAM"]
    counted = (type(part).__name__ in MEASURED_PARTS or getattr(part, "_mode", None) in COUNTERS for part in parts)
    return bool(parts) and all(counted)


def questions(descriptor: int, every: float = LOOK_EVERY) -> Iterator[int]:
    """How many lines have come since the last look: at least every so many seconds, until the input ends."""
    while True:
        came, _, _ = select.select([descriptor], [], [], every)
        text = os.read(descriptor, 4096) if came else b""
        if came and not text:
            return
        yield text.count(b"\n")


def main() -> None:
    """Serve; whatever codecarbon prints or logs goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    logging.disable(logging.CRITICAL)
    for reading in readings(sys.argv[1] if len(sys.argv) > 1 else None, questions(0)):
        answers.write(json.dumps(reading) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

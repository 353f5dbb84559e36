"""What the machine draws while something runs: metered by codecarbon in a process of its own, without a network.

A process of its own, because codecarbon starts threads, logs and imports pandas: none of that reaches what is
measured, and whatever goes wrong in it only leaves the number out.
"""

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from data_prep.strict import StrictModel

ANSWER_SECONDS = 5.0
"""How long an answer of the meter is waited for."""
LEAST_SHARE = 0.5
"""What share of a stretch has to be metered to speak of all of it; the meter needs some seconds to start."""


class EnergyConfig(StrictModel):
    """Energy and CO2 of every stage, metered for the whole machine by codecarbon: an estimate where it counts none."""

    country: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    """Whose electricity it is, as a country code of three letters (DEU, USA); null: the world's average grid."""

    @field_validator("country")
    @classmethod
    def _known(cls, country: str | None) -> str | None:
        spec = find_spec("codecarbon") if country else None
        if country and spec and spec.submodule_search_locations:
            table = Path(spec.submodule_search_locations[0]) / "data/private_infra/global_energy_mix.json"
            if country not in json.loads(table.read_text(encoding="utf-8")):
                raise ValueError(f"{country}: codecarbon knows no such country; write its ISO 3166 code, such as DEU")
        return country


class EnergyMeter:
    """Meters stretches of time. Use as a context manager; without a configuration nothing is metered."""

    def __init__(self, config: EnergyConfig | None, machines: int = 1):
        self._config, self._machines = config, machines
        self._process: subprocess.Popen[bytes] | None = None
        self._ready, self._expected = False, 0  # lines that are still to come
        self._began = 0.0

    def __enter__(self) -> "EnergyMeter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def begin(self) -> None:
        """A stretch begins. The first one also starts the meter."""
        if self._config is not None and self._process is None:
            self._start(self._config.country)
        self._began = time.monotonic()
        self._ask()

    def end(self) -> dict[str, Any] | None:
        """What the stretch took: {"kwh", "emissions_kg", "source": "measured" | "estimated", "grid"}.

        None where nothing was metered, or less than half of the stretch. Energy is of this machine as a whole; more
        `machines` are taken to draw the same, which makes it an estimate.
        """
        seconds = time.monotonic() - self._began
        self._ask()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            reading = self._answer()
            if reading and reading["seconds"] >= LEAST_SHARE * seconds > 0:
                return self._told(reading, seconds)
        return None

    def _told(self, reading: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        scale = self._machines * seconds / reading["seconds"]
        country = self._config.country if self._config else None
        return {
            "kwh": float(f"{reading['kwh'] * scale:.6g}"),
            "emissions_kg": float(f"{reading['emissions_kg'] * scale:.6g}"),
            "source": reading["source"] if self._machines == 1 else "estimated",
            "grid": country or "world average",
        }

    def _start(self, country: str | None) -> None:
        command = [sys.executable, "-P", str(Path(__file__).with_name("energy_meter.py")), *filter(None, [country])]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            self._expected = 1  # that it is ready

    def _ask(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended
                self._process.stdin.write(b"\n")
                self._expected += 1

    def _answer(self) -> dict[str, Any] | None:
        """The answer to the last question. None when the meter has not started yet, is silent, or has ended."""
        if self._process is None or self._process.stdout is None:
            return None
        answer, deadline = None, time.monotonic() + ANSWER_SECONDS
        while self._expected:
            patience = max(0.0, deadline - time.monotonic()) if self._ready else 0.0
            if not select.select([self._process.stdout], [], [], patience)[0]:
                return None
            answer = json.loads(self._process.stdout.readline())
            self._ready, self._expected = True, self._expected - 1
        return answer

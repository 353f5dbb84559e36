"""Energy: metered beside the work, offline, and never a reason for a run to fail."""

import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from eval.energy import EnergyConfig, EnergyMeter
from eval.energy_meter import readings

WATTS = (1.0, 5000.0)
"""Between these lies what any machine draws."""


def stretch(meter: EnergyMeter, seconds: float = 0.3) -> dict[str, Any] | None:
    meter.begin()
    time.sleep(seconds)
    return meter.end()


def first_reading(meter: EnergyMeter, patience: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    while (found := stretch(meter)) is None:
        assert time.monotonic() < deadline, "the meter never became ready"
    return found


def carbon(place: str) -> float:
    """Kilograms of CO2 per kWh by codecarbon's own table."""
    spec = find_spec("codecarbon")
    assert spec is not None and spec.submodule_search_locations
    table = Path(spec.submodule_search_locations[0]) / "data/private_infra/global_energy_mix.json"
    return json.loads(table.read_text(encoding="utf-8"))[place]["carbon_intensity"] / 1000


@pytest.fixture
def without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python process started from here on notes in this file what it wanted of the network, and gets nothing."""
    noted = tmp_path / "network"
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*given, **_):\n"
        f"    open({str(noted)!r}, 'a').write(repr(given))\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    # Settings of the user's that would have the numbers sent and looked up.
    monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
    monkeypatch.setenv("CODECARBON_OUTPUT_METHODS", "api,csv")
    monkeypatch.setenv("CODECARBON_ELECTRICITYMAPS_API_TOKEN", "abc")
    monkeypatch.chdir(tmp_path)
    return noted


def test_energy_of_a_stretch_without_a_network(without_network: Path) -> None:
    with EnergyMeter(EnergyConfig(country="DEU")) as meter:
        found = first_reading(meter)
        longer = stretch(meter, 1.2)
    assert longer is not None
    assert found["source"] in ("measured", "estimated") and found["grid"] == "DEU"
    assert WATTS[0] < longer["kwh"] * 3_600_000 / 1.2 < WATTS[1]
    assert longer["emissions_kg"] == pytest.approx(longer["kwh"] * carbon("DEU"), rel=1e-4)
    assert not without_network.exists()
    assert sorted(path.name for path in Path().iterdir()) == ["sitecustomize.py"]  # it leaves no file behind


def test_without_a_country_the_grid_is_the_worlds_and_more_machines_are_an_estimate() -> None:
    with EnergyMeter(EnergyConfig()) as one, EnergyMeter(EnergyConfig(), machines=3) as three:
        found, tripled = first_reading(one), first_reading(three)
    assert found["grid"] == "world average"
    assert found["emissions_kg"] == pytest.approx(found["kwh"] * 0.475, rel=1e-4)
    assert tripled["source"] == "estimated" and tripled["kwh"] > 1.5 * found["kwh"]


def test_switched_off_nothing_is_started() -> None:
    with EnergyMeter(None) as meter:
        assert stretch(meter, 0) is None and meter._process is None


def test_a_stretch_that_is_over_before_the_meter_is_ready_is_not_waited_for() -> None:
    with EnergyMeter(EnergyConfig()) as meter:
        began = time.monotonic()
        assert stretch(meter, 0) is None
        assert time.monotonic() - began < 2
        assert first_reading(meter)["kwh"] > 0  # and later ones get their own energy


def test_a_meter_that_dies_or_cannot_start_only_leaves_the_number_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EnergyMeter(EnergyConfig()) as meter:
        first_reading(meter)
        assert meter._process is not None
        meter._process.kill()
        meter._process.wait()
        assert stretch(meter, 0) is None and stretch(meter, 0) is None
    (tmp_path / "codecarbon.py").write_text("raise ImportError('broken')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with EnergyMeter(EnergyConfig()) as meter:
        meter.begin()
        assert meter._process is not None and meter._process.wait(60) != 0
        assert meter.end() is None


def test_an_unknown_country_is_refused() -> None:
    with pytest.raises(ValidationError, match="XYZ: codecarbon knows no such country; write its ISO 3166 code"):
        EnergyConfig(country="XYZ")


class Tracker:
    """Stands in for codecarbon's, with other hardware."""

    hardware: list[Any] = []

    def __init__(self, **_: Any) -> None:
        self._hardware = self.hardware

    def start_task(self, name: str) -> None:
        self.name = name

    def stop_task(self, name: str) -> Any:
        assert name == self.name
        return SimpleNamespace(energy_consumed=2.0, emissions=1.0, duration=4.0)


def part(kind: str, mode: str | None = None) -> Any:
    return type(kind, (), {"_mode": mode})()


@pytest.mark.parametrize(
    ("hardware", "source"),
    [
        ([part("RAM"), part("CPU", "cpu_load")], "estimated"),
        ([part("RAM"), part("CPU", "intel_rapl")], "measured"),
        ([part("RAM"), part("CPU", "intel_rapl"), part("GPU")], "measured"),
        ([part("RAM"), part("CPU", "constant"), part("GPU")], "estimated"),
        ([part("RAM")], "estimated"),
    ],
)
def test_measured_is_what_the_hardware_counts(
    hardware: list[Any], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", Tracker)
    monkeypatch.setattr(Tracker, "hardware", hardware)
    ready, first, second = readings(None, [0, 1, 1])
    assert ready == {"ready": True} and first["source"] == source
    assert (first["kwh"], first["emissions_kg"], first["seconds"]) == (4.0, 2.0, 8.0)  # what nobody asked for is kept
    assert second["kwh"] == 2.0


@pytest.mark.end_to_end
def test_a_run_tells_what_its_stages_drew(smoke: Any) -> None:
    told = [stage["energy"] for stage in smoke.report["stages"]]
    metered = [energy for energy in told if energy]
    assert metered, "not one stage was metered"
    assert all(energy["kwh"] > 0 and energy["source"] in ("measured", "estimated") for energy in metered)
    assert smoke.report["config"]["energy"] == {"country": None}

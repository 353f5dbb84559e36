"""Scaling laws: known laws are found again, and what cannot be fitted is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.scaling import Point, fit, scaling
from pipeline.report.scaling_chart import draw
from pipeline.scaling import main

SIZES = (1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6)


def points(law: dict[str, float], tokens: float = 1e6) -> list[Point]:
    """Runs that follow L(N) exactly."""
    return [
        Point(f"size {size:g}", size, tokens, law["floor"] + law["scale"] * size ** -law["exponent"]) for size in SIZES
    ]


@pytest.mark.end_to_end
@given(floor=st.floats(0.2, 2.0), share=st.floats(0.2, 3.0), exponent=st.floats(0.1, 1.0))
@settings(max_examples=8, deadline=None)
def test_a_known_law_is_found_again(floor: float, share: float, exponent: float) -> None:
    law = {"floor": floor, "scale": share * SIZES[0] ** exponent, "exponent": exponent}
    [found] = [law for law in scaling(points(law)) if law.axis == "parameters"]
    assert found.predicted == pytest.approx(found.held_out.loss, rel=2e-3)
    assert found.low <= found.predicted <= found.high


def test_the_fit_equals_chinchillas_own_example() -> None:
    """Hoffmann et al. 2022, equation 10, at D so large that its term vanishes: E = 1.69, A = 406.4, α = 0.34."""
    sizes = [44e6, 128e6, 400e6, 1.3e9, 4.1e9, 16e9]
    law = fit(sizes, [1.69 + 406.4 / size**0.34 for size in sizes])
    assert law.floor == pytest.approx(1.69, abs=0.01) and law.exponent == pytest.approx(0.34, abs=0.005)
    assert law(70e9) == pytest.approx(1.69 + 406.4 / 70e9**0.34, abs=2e-3)


def test_the_largest_point_never_enters_the_fit() -> None:
    true = points({"floor": 1.0, "scale": 50.0, "exponent": 0.3})
    spoiled = [*true[:-1], Point("spoiled", true[-1].parameters, true[-1].tokens, 9.0)]
    assert scaling(true)[0].law == scaling(spoiled)[0].law
    assert scaling(spoiled)[0].error < -0.5


def test_only_runs_with_equal_tokens_are_compared_by_size() -> None:
    law = {"floor": 1.0, "scale": 50.0, "exponent": 0.3}
    mixed = points(law) + [Point("short", 1e9, 1e3, 8.0)]
    [found] = [each for each in scaling(mixed) if each.axis == "parameters"]
    assert found.held_out.name == "size 3.2e+06"
    assert {each.axis for each in scaling(mixed)} == {"parameters", "compute"}
    assert "short" not in [point.name for each in scaling(mixed) for point in each.points]  # beaten by cheaper runs


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 runs: a scaling law needs at least 4 sizes at equal tokens"):
        scaling(points({"floor": 1.0, "scale": 50.0, "exponent": 0.3})[:3])


def test_the_picture_has_the_same_bytes_again(tmp_path: Path) -> None:
    laws = scaling(points({"floor": 1.0, "scale": 50.0, "exponent": 0.3}))
    for name in ("a.svg", "b.svg"):
        draw(laws, tmp_path / name, "bits per byte")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def report(size: float, loss: float) -> dict:
    stage = {
        "name": "pretrain/train",
        "kind": "pretrain.train",
        "tokens": 1e6,
        "metrics": {"trainable_parameters": size},
    }
    models = {"pretrain": {"perplexity/books": {"bits_per_byte": loss}}}
    return {
        "schema_version": 1,
        "run": {},
        "model": {"name": f"m{size:g}"},
        "stages": [stage],
        "evaluation": {"models": models},
    }


def test_the_command_tells_the_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for point in points({"floor": 1.0, "scale": 50.0, "exponent": 0.3}):
        folder = tmp_path / f"{point.parameters:g}"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(report(point.parameters, point.loss)), encoding="utf-8")
        runs.append(str(folder))
    assert main([*runs, "--out", str(tmp_path / "law")]) == 0
    told = capsys.readouterr().out
    assert "held out: m3.2e+06" in told and "parameters N" in told
    assert json.loads((tmp_path / "law/scaling.json").read_text())[0]["axis"] == "parameters"
    assert main(runs[:2]) == 2
    assert capsys.readouterr().err.startswith("2 runs: a scaling law needs at least 4 sizes")


def test_a_run_without_pretraining_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(1e5, 2.0) | {"stages": []}), encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    assert "has no finished pretrain stage" in capsys.readouterr().err

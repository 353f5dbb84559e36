"""What a run cost: sums, sources and gaps are told as they are."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.comparison.entry import entry_of
from pipeline.report.cost import cost_facts, cost_rows, kwh, relative
from pipeline.report.load import parse
from pipeline.report.render import render_html, render_markdown
from pipeline.report.results import tiles

SAMPLE = json.loads((Path(__file__).parent / "sample_report.json").read_text("utf-8"))


def with_energy(*known: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The sample with the energy of some stages."""
    report = copy.deepcopy(SAMPLE)
    for stage in report["stages"]:
        stage["energy"] = dict(known).get(stage["name"])
    return report


def test_absent_energy_is_not_shown() -> None:
    facts = dict(cost_facts(parse(SAMPLE)))
    assert facts["This run"] == "5 min 1 s" and facts["Training"] == "2 min 58 s"
    assert facts["Peak memory, sft/train"] == "1.31 GiB (the plan said 1.22 GiB, +7 %)"
    assert not {"Energy", "Emissions"} & set(facts)
    assert ">Energy<" not in render_html(parse(SAMPLE))


def test_energy_is_summed_with_its_source_and_what_is_missing() -> None:
    train = {"kwh": 0.002, "source": "measured", "emissions_kg": 0.0007, "grid": "world average"}
    score = {"kwh": 0.0005, "source": "estimated"}
    report = parse(with_energy(("sft/train", train), ("evaluate/sft", score)))
    facts = dict(cost_facts(report))
    missing = len(SAMPLE["stages"]) - 2
    assert facts["Energy"] == f"2.5 Wh, estimated and measured, without {missing} stages of unknown energy"
    assert facts["Emissions"] == "0.7 g CO₂e (grid: world average)"
    rows = {row.stage.name: row.energy for row in cost_rows(report.stages)}
    assert rows["sft/train"] == "2 Wh" and rows["filter"] == "–"
    assert "2.5 Wh, estimated and measured" in render_html(report) and ">Energy<" in render_html(report)
    assert "- Energy: 2.5 Wh" in render_markdown(report)


@pytest.mark.parametrize("energy", [None, {}, {"kwh": None, "source": "measured"}, {"unknown": 3}])
def test_energy_without_a_number_is_no_energy(energy: dict[str, Any] | None) -> None:
    report = SAMPLE | {"stages": [stage | {"energy": energy} for stage in SAMPLE["stages"]]}
    assert "Energy" not in dict(cost_facts(parse(report)))
    assert "energy" not in entry_of(report, Path("x")).costs


def test_a_comparison_counts_the_energy_of_training() -> None:
    report = with_energy(("sft/train", {"kwh": 0.002}), ("evaluate/sft", {"kwh": 0.5}))
    assert entry_of(report, Path("x")).costs["energy"] == 0.002


def test_units_and_shares() -> None:
    assert [kwh(value) for value in (0.0000238, 0.00375, 1.5)] == ["0.024 Wh", "3.75 Wh", "1.5 kWh"]
    assert relative(0.969, -0.106) == "−10.9 %" and relative(0.2, 0.1) == "+50 %"
    assert relative(0.0, 0.1) == relative(-1.0, 0.1) == relative(None, None) == ""


def test_a_reader_who_never_saw_the_run_learns_all_from_the_banner() -> None:
    """What was tuned on what, did it help, by how much, how sure."""
    banner = render_html(parse(SAMPLE)).partition('id="verdict"')[2].partition("</section>")[0]
    for told in (
        "SmolLM2-135M-Instruct", "LoRA, rank 16", "780 rows of xsum", "Better", "0.969 → 0.863", "(−10.9 %)",
        "95 % interval", "−0.125 to −0.087", "&lt; 0.001", "how many bits the model needs for each byte",
        "text it was not tuned on", "(worse: bits per byte of perplexity/general)",
    ):  # fmt: skip
        assert told in banner, told


def test_what_became_worse_is_never_hidden_behind_another_metric_of_its_task() -> None:
    report = copy.deepcopy(SAMPLE)
    cells = report["evaluation"]["comparisons"]["sft_vs_base"]["bleu/xsum"]
    cells["chrf"] |= {"verdict": "worse", "difference": -3.1, "low": -4.4, "high": -1.7}
    shown = {row.task: (row.metric, row.word) for row in tiles(parse(report))}
    assert shown["bleu/xsum"] == ("chrf", "Worse") and shown["rouge/xsum"] == ("rougeL", "Better")


def test_the_flat_plan_of_a_stage_without_a_model_is_not_judged() -> None:
    rows = {row.stage.name: row.memory for row in cost_rows(parse(SAMPLE).stages)}
    assert rows["sft/train"] == "1.31 GiB, +7 %"
    small = [stage | {"estimated_memory_bytes": 3e8, "peak_memory_bytes": 6e8} for stage in SAMPLE["stages"]]
    assert {row.memory for row in cost_rows(parse(SAMPLE | {"stages": small}).stages)} == {"572 MiB"}

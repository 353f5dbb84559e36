"""The plan's estimates: every stage has one, more work costs more, cached costs nothing."""

from pathlib import Path

import pytest

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.estimate import Cost, estimate
from pipeline.plan import make_plan
from tests.conftest import Finished


def costs(outputs: Path, *overrides: str) -> dict[str, Cost]:
    plan = make_plan(validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={outputs}"])))
    return {step.node.name: cost for step, cost in zip(plan.steps, estimate(plan), strict=True)}


def test_every_stage_of_new_outputs_has_an_estimate(tmp_path: Path) -> None:
    for name, cost in costs(tmp_path).items():
        assert cost.memory and cost.memory > 1e8, name
        assert cost.seconds and cost.seconds > 0, name


@pytest.mark.parametrize("more", ["stages.sft.batch_size=64", "model.scratch.layers=24"])
def test_more_work_needs_more_memory(tmp_path: Path, more: str) -> None:
    small, large = costs(tmp_path)["sft/train"].memory, costs(tmp_path, more)["sft/train"].memory
    assert small is not None and large is not None and large > small


def test_accumulation_needs_less_memory(tmp_path: Path) -> None:
    whole = costs(tmp_path, "stages.sft.batch_size=64")["sft/train"].memory
    parts = costs(tmp_path, "stages.sft.batch_size=64", "stages.sft.micro_batch_size=1")["sft/train"].memory
    assert whole is not None and parts is not None and parts < whole


@pytest.mark.parametrize("kind", ["dpo", "kto", "orpo", "simpo"])
def test_preference_stages_have_an_estimate(tmp_path: Path, kind: str) -> None:
    stage = f"stages.{kind}={{kind: {kind}, dataset: sample, max_steps: 10, batch_size: %d}}"
    small, large = (costs(tmp_path, f"run=[{kind}]", stage % size) for size in (4, 32))
    for name, cost in large.items():
        assert cost.memory and cost.seconds, name
    before, after = small[f"{kind}/train"], large[f"{kind}/train"]
    assert before.memory and after.memory and after.memory > before.memory
    assert before.seconds and after.seconds and after.seconds > before.seconds
    assert (f"{kind}/reference" in large) == (kind in ("dpo", "kto"))


@pytest.mark.end_to_end
def test_cached_stages_cost_nothing(smoke: Finished) -> None:
    assert {cost.seconds for cost in costs(smoke.outputs).values()} == {0.0}

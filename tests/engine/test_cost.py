"""What runs will cost: sums by hand, shared artifacts once, a warning above the budget."""

from pathlib import Path

import pytest

from pipeline import cost
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.cost import cost_lines, expected
from pipeline.estimate import Cost
from pipeline.gpu_slots import gpu_slot, groups
from pipeline.plan import Plan, make_plan

GPUS = ("+experiment=smoke", "launch=ddp", "launch.processes=4", "run=[filter,sft]")


def plan(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(validate(RunConfig, compose([*GPUS, f"outputs={tmp_path}", *overrides])))


@pytest.fixture
def an_hour_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "estimate", lambda plan: [Cost(None, 3600.0) for _ in plan.steps])


@pytest.mark.usefixtures("an_hour_each")
def test_sums_count_shared_artifacts_once(tmp_path: Path) -> None:
    one, other = plan(tmp_path, "seed=1"), plan(tmp_path, "seed=2")
    nodes = len(one.steps)
    shared = len({step.node.fingerprint for step in one.steps} & {step.node.fingerprint for step in other.steps})
    assert 0 < shared < nodes
    total = expected([one, other])
    assert (total.hours, total.device_hours, total.unknown) == (2 * nodes - shared, 4 * (2 * nodes - shared), 0)


@pytest.mark.usefixtures("an_hour_each")
def test_the_price_and_the_budget(tmp_path: Path) -> None:
    nodes = len(plan(tmp_path).steps)
    assert cost_lines([plan(tmp_path)]) == [f"expected: {nodes:.2f} h, {4 * nodes:.2f} GPU-hours"]
    price = "launch.price_per_gpu_hour=2.5"
    (line,) = cost_lines([plan(tmp_path, price, "budget=1000")])
    assert line.endswith(f"GPU-hours, {10 * nodes:.2f} at 2.5 per hour")
    _, warning = cost_lines([plan(tmp_path, price, "budget=20")])
    assert warning.startswith(f"warning: {10 * nodes:.2f} is above the budget of 20.00; fewer points")


def test_what_has_no_estimate_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "estimate", lambda plan: [Cost(None, None) for _ in plan.steps])
    made = plan(tmp_path)
    assert cost_lines([made])[0].endswith(f"GPU-hours (and {len(made.steps)} nodes of unknown cost)")


def test_jobs_take_the_first_free_group_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7,8,9,10,11,12")
    config = plan(tmp_path).config
    assert groups(config) == [["2", "3", "5", "7"], ["8", "9", "10", "11"]]
    with gpu_slot(config, tmp_path) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7,8,9,10,11,12")  # as another job's process sees them
        with gpu_slot(config, tmp_path) as second:
            assert (first, second) == (["2", "3", "5", "7"], ["8", "9", "10", "11"])
    with gpu_slot(config, tmp_path) as again:
        assert again == first

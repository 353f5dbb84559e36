"""The plans of preference stages: which field changes which node, what is refused, what experiments hold."""

from pathlib import Path

import pytest

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import make_plan
from pipeline.stages.dpo.config import Loss
from tests.engine.preference_rows import overrides, pairs, write_rows

TRAIN, REFERENCE, PREPARE = "dpo/train", "dpo/reference", "dpo/prepare"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("judged") / "pairs.jsonl", pairs())


def fingerprints(judged: Path, *more: str, kind: str = "dpo") -> dict[str, str]:
    command = [*overrides(judged, kind, run=kind), *more, f"outputs={judged.parent / 'outputs'}"]
    plan = make_plan(validate(RunConfig, compose(command)))
    return {step.node.name: step.node.fingerprint for step in plan.steps}


@pytest.mark.parametrize(
    ("override", "dependent"),
    [
        ("learning_rate=1e-4", {TRAIN}),
        ("beta=0.3", {TRAIN}),
        ("loss=hinge", {TRAIN}),
        ("loss={sigmoid: 1, sft: 0.2}", {TRAIN}),
        ("divergence=js_divergence", {TRAIN}),
        ("divergence_alpha=0.7", {TRAIN}),
        ("discopop_tau=0.1", {TRAIN}),
        ("weighting=true", {TRAIN}),
        ("dropout=true", {TRAIN}),
        ("adapter={kind: lora, r: 4}", {TRAIN}),
        ("adapter={kind: none}", {TRAIN, REFERENCE}),
        ("length_alpha=0.5", {TRAIN, REFERENCE}),
        ("on_broken_pair=drop", {TRAIN, REFERENCE, PREPARE}),
        ("max_length=64", {TRAIN, REFERENCE, PREPARE}),
        ("micro_batch_size=2", set()),
    ],
)
def test_the_reference_is_kept_whatever_the_recipe(judged: Path, override: str, dependent: set[str]) -> None:
    before, after = fingerprints(judged), fingerprints(judged, f"stages.dpo.{override}")
    assert {name for name in before if before[name] != after[name]} == dependent


@pytest.mark.parametrize("loss", ["aot", "{sigmoid: 1, sft: 0.1}"])
def test_accumulation_counts_where_the_loss_reads_a_whole_batch(judged: Path, loss: str) -> None:
    whole = fingerprints(judged, f"stages.dpo.loss={loss}")
    parts = fingerprints(judged, f"stages.dpo.loss={loss}", "stages.dpo.micro_batch_size=2")
    assert {name for name in whole if whole[name] != parts[name]} == {TRAIN}


def test_kinds_of_pairs_share_what_was_prepared(judged: Path) -> None:
    prepared = {fingerprints(judged, kind=kind)[f"{kind}/prepare"] for kind in ("dpo", "orpo", "simpo")}
    assert len(prepared) == 1
    assert "simpo/reference" not in fingerprints(judged, kind="simpo")


def test_every_loss_of_trl_is_offered() -> None:
    import re
    from typing import get_args

    from trl import DPOConfig

    told = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"].partition("If multiple")[0]
    assert set(re.findall(r"`'(\w+)'`", told)) == set(get_args(Loss))


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        ("dpo", "loss=exo_pair", "stages.dpo: loss exo_pair needs label_smoothing above 0"),
        ("dpo", "label_smoothing=0.1", "stages.dpo: label_smoothing 0.1 has no effect on sigmoid; use it with robust"),
        ("dpo", "loss={sigmoid: -1}", "each weight must be above 0"),
        ("dpo", "loss=sigmod", "stages.dpo.loss"),
        (
            "dpo",
            "adapter={kind: lora, dropout: 0.1}",
            "adapter.dropout 0.1 has no effect without dropout=true; set it, or 0",
        ),
        ("dpo", "warmup_steps=6", "warmup_steps 6 must be below max_steps 6"),
        ("dpo", "micro_batch_size=3", "stages.dpo: micro_batch_size 3 does not divide the 4 sequences"),
        ("orpo", "batch_tokens=500", "stages.orpo: batch_tokens 500: losses of judged answers are means over answers"),
        ("dpo", "lose=hinge", "stages.dpo.lose: unknown key (value 'hinge'); did you mean loss?"),
        ("kto", "batch_size=1", "the loss kto compares neighbours: batch_size and micro_batch_size must be at least 2"),
    ],
)
def test_what_does_not_go_together_is_refused(judged: Path, kind: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        fingerprints(judged, f"stages.{kind}.{override}", kind=kind)
    assert message in str(error.value)


def test_two_settings_that_need_each_other_are_refused(judged: Path) -> None:
    robust = ["stages.dpo.loss=robust", "stages.dpo.label_smoothing=0.6"]
    with pytest.raises(ConfigError, match=r"label_smoothing 0.6: must be below 0.5 for the loss robust"):
        fingerprints(judged, *robust)
    with pytest.raises(ConfigError, match="divergence forward_kl is not defined for the loss apo_zero; use reverse_kl"):
        fingerprints(judged, "stages.dpo.loss=apo_zero", "stages.dpo.divergence=forward_kl")
    with pytest.raises(ConfigError, match="weighting goes with losses of single pairs"):
        fingerprints(judged, "stages.dpo.loss=aot", "stages.dpo.weighting=true")


@pytest.mark.parametrize(
    ("experiment", "nodes"),
    [
        ("dpo_llama", {"sft/train", "dpo/reference", "dpo/train", "evaluate/dpo_vs_base"}),
        ("full_chain", {"pretrain/train", "sft/train", "dpo/reference", "dpo/train", "evaluate/dpo_vs_base"}),
    ],
)
def test_the_experiments_plan(tmp_path: Path, experiment: str, nodes: set[str]) -> None:
    plan = make_plan(validate(RunConfig, compose([f"+experiment={experiment}", f"outputs={tmp_path}"])))
    steps = {step.node.name: step.node for step in plan.steps}
    assert nodes <= set(steps)
    assert {"adapter_0", "reference"} <= set(steps["dpo/train"].inputs)
    assert "adapter_0" in steps["dpo/reference"].inputs

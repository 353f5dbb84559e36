"""The memory model against textbooks, and the rehearsal of one step that leaves no trace."""

import json
from pathlib import Path

import pytest

from pipeline.artifacts import read_json
from pipeline.errors import StageFailed
from pipeline.training.activation_memory import Batch
from pipeline.training.adapter_config import QloraAdapter
from pipeline.training.memory import (
    block_parameters,
    quantised_bytes,
    states,
    trainable_parameters,
    training_memory,
)
from pipeline.training.model_sizes import ModelFacts
from tests.conftest import Finished
from tests.engine.test_training import losses, stage_of, train

LLAMA_8B = ModelFacts(8_030_261_248, 32, 4096, 32, 128_256, 8, 128, 14_336)


def recipe(smoke: Finished, **changes: object):
    from pipeline.stages.sft.config import SftTrainConfig

    return SftTrainConfig.model_validate(stage_of(smoke, **changes)[0])


def test_the_textbook_case_of_seven_billion_parameters() -> None:
    """Full AdamW in 16 bit: 14 GB of weights, 14 of gradients, 56 of moments: 84 GB."""
    memory = states(7.0e9, 7.0e9)
    assert (memory.weights, memory.gradients, memory.optimizer) == (14e9, 14e9, 56e9)
    assert memory.total == 84e9


def test_gpt_3_has_175_billion_parameters() -> None:
    assert block_parameters(96, 12_288) == pytest.approx(175e9, rel=0.01)


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ("ddp", (14e9, 14e9, 56e9)),
        ("deepspeed_zero2", (14e9, 14e9 / 8, 7e9)),
        ("deepspeed_zero3", (14e9 / 8, 14e9 / 8, 7e9)),
        ("fsdp2", (14e9 / 8, 14e9 / 8, 7e9)),
    ],
)
def test_shards_on_eight_ranks(launch: str, expected: tuple[float, float, float]) -> None:
    """Table 1 of the ZeRO paper's reasoning: what is sharded is an eighth, what is not is whole."""
    memory = states(7.0e9, 7.0e9, launch=launch, processes=8)
    assert (memory.weights, memory.gradients, memory.optimizer) == expected


def test_bytes_of_quantised_weights() -> None:
    """QLoRA's paper: double quantisation saves 0.373 bits per parameter, from 0.5 to 0.127 bits of scales."""
    plain, double = (8 * quantised_bytes(QloraAdapter(double_quantization=each)) for each in (False, True))
    assert (
        plain == 4.5 and double == pytest.approx(4.127, abs=1e-3) and plain - double == pytest.approx(0.373, abs=1e-3)
    )


@pytest.mark.end_to_end
def test_an_8b_model_by_qlora_fits_a_small_gpu_and_full_does_not(smoke: Finished) -> None:
    qlora = recipe(smoke, adapter={"kind": "qlora"}, dtype="bfloat16")
    full = recipe(smoke, adapter={"kind": "none"}, dtype="bfloat16")
    small = training_memory(qlora, LLAMA_8B, Batch(1, 512))
    assert 5.5e9 < small.weights < 6.2e9 and small.total < 16e9
    assert training_memory(full, LLAMA_8B, Batch(1, 512)).total > 128e9
    one, eight = (training_memory(full, LLAMA_8B, Batch(1, 512), "fsdp2", count) for count in (1, 8))
    assert eight.optimizer == one.optimizer / 8 and eight.activations == one.activations


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "adapter",
    [
        {"kind": "lora", "r": 8, "target": "attention"},
        {"kind": "qlora", "r": 4},
        {"kind": "lora", "r": 8, "rank_pattern": {"q_proj": 2}, "target": ["q_proj", "down_proj"]},
        {"kind": "dora", "r": 4, "target": "mlp"},
        {"kind": "vera", "r": 16},
        {"kind": "ia3"},
        {"kind": "prefix", "tokens": 4},
        {"kind": "prompt", "tokens": 4},
        {"kind": "freeze", "last_layers": 1},
        {"kind": "none"},
    ],
    ids=lambda adapter: adapter["kind"],
)
def test_trainable_parameters_are_those_that_train(smoke: Finished, tmp_path: Path, adapter: dict) -> None:
    """Counted by arithmetic from the model's sizes, and counted by PEFT in the trained model."""
    from pipeline.model_facts import facts_of

    facts = facts_of(smoke.artifact("model") / "model")
    assert facts is not None
    metrics = train(smoke, tmp_path, adapter=adapter, max_steps=1, preflight=False)
    assert trainable_parameters(recipe(smoke, adapter=adapter), facts) == metrics["trainable_parameters"]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapter": {"kind": "lora", "dropout": 0.3}, "weight_decay": 0.1},
        {"adapter": {"kind": "qlora", "r": 4}},
        {"adapter": {"kind": "none"}, "optimizer": "muon", "micro_batch_size": 2},
        {"adapter": {"kind": "none"}, "neftune_alpha": 5.0, "optimizer": "adafactor"},
    ],
    ids=["lora", "dropout", "qlora", "muon", "noise"],
)
def test_the_preflight_leaves_no_trace(smoke: Finished, tmp_path: Path, changes: dict) -> None:
    """Losses and gradient norms bit by bit, and the trained weights byte by byte."""
    for preflight in (False, True):
        train(smoke, tmp_path / str(preflight), preflight=preflight, max_steps=4, **changes)
    assert (tmp_path / "True" / "steps.jsonl").read_bytes() == (tmp_path / "False" / "steps.jsonl").read_bytes()
    [mine] = (tmp_path / "True").glob("*/*model*.safetensors")
    assert mine.read_bytes() == (tmp_path / "False" / mine.relative_to(tmp_path / "True")).read_bytes()
    assert not list((tmp_path / "True" / "checkpoints").glob(".preflight*"))


@pytest.mark.end_to_end
def test_the_longest_rows_are_tried(smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_from_disk

    from pipeline.training import preflight

    seen = []
    step = preflight.Preflight._step
    monkeypatch.setattr(preflight.Preflight, "_step", lambda self, rows: (seen.extend(rows), step(self, rows))[1])
    metrics = train(smoke, tmp_path, max_steps=1, batch_size=4)
    lengths = sorted(len(row["input_ids"]) for row in load_from_disk(str(smoke.artifact("sft/prepare") / "train")))
    assert sorted(len(row["input_ids"]) for row in seen) == lengths[-4:]
    assert metrics["preflight_tokens"] == 4 * lengths[-1]
    assert metrics["preflight_step_memory_measured"] >= 0 and metrics["preflight_step_memory_estimated"] > 0


@pytest.mark.end_to_end
def test_estimate_and_measurement_are_in_the_metrics(smoke: Finished) -> None:
    metrics = read_json(smoke.artifact("sft/train") / "metrics.json")
    names = {"preflight_step_memory_estimated", "preflight_step_memory_measured", "preflight_seconds"}
    assert names <= set(metrics)


@pytest.mark.end_to_end
def test_a_batch_that_does_not_fit_stops_before_the_first_step(
    smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training import preflight

    def full(*_: object) -> float:
        raise MemoryError("no room")

    monkeypatch.setattr(preflight.Preflight, "_step", full)
    with pytest.raises(StageFailed, match=r"preflight: 8 sequences of \d+ tokens do not fit .*; lower micro_b"):
        train(smoke, tmp_path, max_steps=1)
    assert (tmp_path / "checkpoints" / "steps.jsonl").read_text(encoding="utf-8") == ""


@pytest.mark.end_to_end
def test_a_resumed_run_does_not_rehearse_again(smoke: Finished, tmp_path: Path) -> None:
    train(smoke, tmp_path, max_steps=5, checkpoint_every=4)
    metrics = train(smoke, tmp_path, max_steps=6, checkpoint_every=4)
    assert "preflight_seconds" not in metrics and len(losses(tmp_path)) == 6
    assert json.loads((tmp_path / "steps.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"] == 6

"""Every field of the recipe does what it says: against transformers' and torch's own, or against arithmetic."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError, StageFailed
from pipeline.plan import make_plan
from tests.conftest import Finished
from tests.engine.test_training import losses, stage_of, train

FULL = {"adapter": {"kind": "none"}, "learning_rate": 1e-3}


def logged(folder: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def recipe(smoke: Finished, **changes: object):
    from pipeline.stages.sft.config import SftTrainConfig

    return SftTrainConfig.model_validate(stage_of(smoke, **changes)[0])


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("schedule", "more", "expected"),
    [
        ("constant", {}, [0, 1 / 2, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", {}, [0, 1 / 2, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("wsd", {"decay_share": 0.3}, [0, 1 / 2, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3]),
    ],
)
def test_schedules(smoke: Finished, tmp_path: Path, schedule: str, more: dict, expected: list[float]) -> None:
    """Learning rates of ten steps, two of them warm-up, as shares of the peak."""
    train(smoke, tmp_path, schedule=schedule, warmup_steps=2, max_steps=10, learning_rate=1e-3, batch_size=2, **more)
    assert [rate / 1e-3 for rate in logged(tmp_path, "learning_rate")] == pytest.approx(expected, abs=1e-6)


@pytest.mark.end_to_end
@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
def test_optimizers_train_and_resume(smoke: Finished, tmp_path: Path, optimizer: str) -> None:
    """Six steps at once equal four steps, an end, and two more from the checkpoint."""
    changes = {**FULL, "optimizer": optimizer, "schedule": "constant", "checkpoint_every": 4}
    train(smoke, tmp_path / "whole", max_steps=6, **changes)
    train(smoke, tmp_path / "parts", max_steps=5, **changes)
    train(smoke, tmp_path / "parts", max_steps=6, **changes)
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def one_step(smoke: Finished, out: Path, **changes: object) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    train(smoke, out, **FULL, max_steps=1, schedule="constant", **changes)
    return load_file(out / "model" / "model.safetensors")


@pytest.mark.end_to_end
def test_muon_moves_matrices_as_torchs_muon_and_the_rest_as_adamw(smoke: Finished, tmp_path: Path) -> None:
    """Muon's update of a matrix has singular values near 1 · 0.2 √(longer side); AdamW's first update is ± lr."""
    from safetensors.torch import load_file

    before = load_file(smoke.artifact("model") / "model" / "model.safetensors")
    after = one_step(smoke, tmp_path, optimizer="muon")
    matrix = (before["model.layers.0.mlp.up_proj.weight"] - after["model.layers.0.mlp.up_proj.weight"]) / 1e-3
    singular = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5)
    assert 0.5 < singular.median() < 1.3
    embeddings = (before["model.embed_tokens.weight"] - after["model.embed_tokens.weight"]).abs() / 1e-3
    assert embeddings.max() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.end_to_end
def test_weight_decay_leaves_norms_and_named_weights_alone(smoke: Finished, tmp_path: Path) -> None:
    """AdamW subtracts lr · decay · weight from what decays, and nothing else changes."""
    plain = one_step(smoke, tmp_path / "plain")
    decayed = one_step(smoke, tmp_path / "decayed", weight_decay=0.5, no_weight_decay=["up_proj"])
    from safetensors.torch import load_file

    before = load_file(smoke.artifact("model") / "model" / "model.safetensors")
    for name, weight in plain.items():
        alone = "norm" in name or "up_proj" in name
        expected = weight if alone else weight - 1e-3 * 0.5 * before[name]
        assert torch.allclose(decayed[name], expected, atol=1e-7), name


@pytest.mark.end_to_end
def test_lora_plus_lets_b_learn_faster(smoke: Finished, tmp_path: Path) -> None:
    """AdamW's first update is ± the learning rate: B, which starts at 0, stands at 16 times the rate."""
    from safetensors.torch import load_file

    adapter = {"kind": "lora_plus", "r": 4, "learning_rate_ratio": 8.0}
    train(smoke, tmp_path, adapter=adapter, learning_rate=1e-3, max_steps=1, schedule="constant")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, weight in weights.items():
        if "lora_B" in name:
            assert weight.abs().max() == pytest.approx(8e-3, rel=1e-2), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adamw_8bit"}, "optimizer adamw_8bit: needs a GPU; use adamw or adafactor"),
        ({"optimizer": "paged_adamw"}, "optimizer paged_adamw: needs a GPU"),
        ({"liger": True}, "liger: needs a GPU; set liger=false"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.end_to_end
def test_what_needs_a_gpu_says_so(smoke: Finished, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(StageFailed, match=message):
        train(smoke, tmp_path, **changes)


@pytest.mark.end_to_end
def test_switches_reach_the_trainer(smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training import arguments

    monkeypatch.setattr(arguments, "_refuse_gpu_only", lambda *_: None)
    asked = recipe(smoke, compile=True, liger=True, optimizer="paged_adamw_8bit", activation_checkpointing=True)
    given = arguments.training_arguments(asked, 10, tmp_path)
    assert given["torch_compile"] and given["use_liger_kernel"] and given["activation_checkpointing"]
    assert given["optim"] == "paged_adamw_8bit" and given["save_strategy"] == "steps"
    assert arguments.training_arguments(recipe(smoke, checkpoint_minutes=5.0), 9, tmp_path)["save_strategy"] == "no"


@pytest.mark.end_to_end
@pytest.mark.parametrize("kind", ["lora", "none"])
def test_recomputed_activations_change_nothing(smoke: Finished, tmp_path: Path, kind: str) -> None:
    for saved in (False, True):
        changes = {"adapter": {"kind": kind}, "activation_checkpointing": saved, "max_steps": 4}
        train(smoke, tmp_path / str(saved), **changes)
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), abs=1e-6)


@pytest.mark.end_to_end
def test_a_batch_in_tokens(smoke: Finished, tmp_path: Path) -> None:
    """As many sequences as come nearest: the same steps as with that batch in sequences."""
    rows = json.loads((smoke.artifact("sft/prepare") / "audit.json").read_text(encoding="utf-8"))["splits"]["train"]
    mean = rows["tokens"] / rows["rows"]
    train(smoke, tmp_path / "tokens", batch_tokens=round(6 * mean), micro_batch_size=4, max_steps=3)
    train(smoke, tmp_path / "sequences", batch_size=6, micro_batch_size=3, max_steps=3)
    assert losses(tmp_path / "tokens") == losses(tmp_path / "sequences")


@pytest.mark.parametrize(("tokens", "expected"), [(1, 1), (700, 7), (1000, 8), (1300, 16), (64_000, 640)])
def test_sequences_of_a_token_batch(tokens: int, expected: int) -> None:
    from pipeline.training.config import Recipe, sequences_of

    assert sequences_of(Recipe(batch_tokens=tokens), mean_tokens=100.0) == expected


@pytest.mark.end_to_end
def test_checkpoints_by_the_clock(smoke: Finished, tmp_path: Path) -> None:
    train(smoke, tmp_path / "often", checkpoint_minutes=1e-9, max_steps=4)
    marks = sorted(path.parent.name for path in (tmp_path / "often").rglob("complete.json"))
    assert marks == ["checkpoint-2", "checkpoint-3"]  # the last two, and none of the last step
    train(smoke, tmp_path / "never", checkpoint_minutes=1e9, checkpoint_every=1, max_steps=4)
    assert not list((tmp_path / "never").rglob("complete.json"))


@pytest.mark.end_to_end
@pytest.mark.parametrize(("share", "expected"), [(1e9, ["checkpoint-2", "checkpoint-4"]), (1e-9, ["checkpoint-2"])])
def test_checkpoints_take_their_share_of_the_time(
    smoke: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, expected: list[str]
) -> None:
    """The first tells what one costs; the next waits until that is a small part of the time that has passed."""
    from pipeline.training import checkpoints

    monkeypatch.setattr(checkpoints, "USUAL_STEPS", 2)
    monkeypatch.setattr(checkpoints, "MOST_STALL", share)
    metrics = train(smoke, tmp_path, checkpoint_every=None, max_steps=6)
    assert sorted(path.parent.name for path in tmp_path.rglob("complete.json")) == expected
    assert 0 < metrics["checkpoint_seconds"] < metrics["train_seconds"]


@pytest.mark.end_to_end
def test_early_stopping_keeps_the_best_weights(smoke: Finished, tmp_path: Path) -> None:
    """A learning rate that ruins the model: the losses rise, and the saved adapter is that of the lowest."""
    changes = {"learning_rate": 0.3, "schedule": "constant", "validate_every": 1, "validation_rows": 8}
    metrics = train(smoke, tmp_path, max_steps=30, early_stopping=3, checkpoint_every=1, **changes)
    measured = losses(tmp_path, "validation.jsonl")
    best = measured.index(min(measured))
    assert len(measured) == best + 4 == metrics["steps"] < 30
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tests.engine.test_training import plain_losses

    base = AutoModelForCausalLM.from_pretrained(smoke.artifact("model") / "model")
    rows = list(load_from_disk(str(smoke.artifact("sft/prepare") / "validation")))[:8]
    nats, tokens = plain_losses(PeftModel.from_pretrained(base, tmp_path / "adapter").eval(), rows)
    assert nats / tokens == pytest.approx(min(measured), abs=1e-5)
    assert not (tmp_path / "checkpoints" / f"checkpoint-{len(measured)}").exists()


@pytest.mark.end_to_end
def test_neftune_adds_noise_in_training_only(smoke: Finished, tmp_path: Path) -> None:
    for alpha in (None, 5.0):
        train(smoke, tmp_path / str(alpha), neftune_alpha=alpha, max_steps=2, validate_every=1, learning_rate=1e-9)
    assert losses(tmp_path / "5.0")[0] != losses(tmp_path / "None")[0]
    assert losses(tmp_path / "5.0", "validation.jsonl") == pytest.approx(
        losses(tmp_path / "None", "validation.jsonl"), abs=1e-6
    )


@pytest.mark.end_to_end
def test_validation_does_not_disturb_quantised_training(smoke: Finished, tmp_path: Path) -> None:
    for every in (None, 1):
        adapter = {"kind": "qlora", "r": 4}
        train(smoke, tmp_path / str(every), adapter=adapter, max_steps=4, validate_every=every, validation_rows=4)
    assert losses(tmp_path / "1") == losses(tmp_path / "None")


TWO = ["data.other={source: 'package://data_prep/samples/instructions.jsonl', limit: 60}"]


def planned(tmp_path: Path, *overrides: str):
    return make_plan(validate(RunConfig, compose(["+experiment=smoke", *TWO, *overrides, f"outputs={tmp_path}"])))


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        ("[sample,other]", {"sample": (None, 1.0), "other": (None, 1.0)}),
        ("{sample: 2.0, other: 1.0}", {"sample": (2.0, None), "other": (1.0, None)}),
    ],
)
def test_several_data_sets_become_a_mixture(tmp_path: Path, dataset: str, parts: dict) -> None:
    plan = planned(tmp_path, f"stages.sft.dataset={dataset}", "run=[filter,sft]")
    nodes = {step.node.name: step.node for step in plan.steps}
    made = {name: (part["weight"], part["epochs"]) for name, part in nodes["sft_mix"].config["parts"].items()}
    assert made == parts and nodes["sft/prepare"].inputs["dataset"].node is nodes["sft_mix"]


def test_unknown_data_sets_of_a_mixture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'chat'; there are"):
        planned(tmp_path, "stages.sft.dataset=[sample,chat]", "run=[filter,sft]")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping": 3}, "early_stopping watches the validation loss; set validate_every"),
        ({"adapter": {"kind": "lora_plus"}, "optimizer": "muon"}, "adapter lora_plus has groups of its own"),
        ({"adapter": {"kind": "freeze", "last_layers": 0}}, "nothing would be trained; raise last_layers or name"),
        ({"adapter": {"kind": "qlora", "quantization": "int8", "double_quantization": True}}, "goes with 4 bit"),
    ],
)
def test_what_does_not_go_together(changes: dict, message: str) -> None:
    from pydantic import ValidationError

    from pipeline.training.config import Recipe

    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(changes)

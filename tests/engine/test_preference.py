"""Preference training against plain TRL, ln 2, other batch splits and other numbers of ranks."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.progress import silent
from tests.conftest import Finished, run_pipeline
from tests.engine.plain_trl import plain_settings
from tests.engine.preference_rows import logged, overrides, pairs, stage_of, write_rows

pytestmark = pytest.mark.end_to_end

LN2 = math.log(2)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("judged") / "pairs.jsonl", pairs())


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, judged: Path) -> Iterator[Finished]:
    """DPO on top of a LoRA that a fine-tuning left."""
    finished = run_pipeline(
        tmp_path_factory.mktemp("chained"), *overrides(judged, run="sft,dpo", validate_every="3", validation_rows="17")
    )
    assert finished.code == 0, finished.out + finished.err
    yield finished


def dpo(run: Finished, out: Path, inputs: dict[str, Path] | None = None, **changes: object) -> dict[str, float]:
    """The run's DPO training again, with some settings changed."""
    from pipeline.stages.dpo.train import run as train

    out.mkdir(parents=True, exist_ok=True)
    config, known = stage_of(run, "dpo/train", **changes)
    return train(config, known | (inputs or {}), out, silent)


def reference(run: Finished, out: Path, keep: tuple[str, ...], **changes: object) -> dict[str, Path]:
    """The inputs of a training that starts elsewhere (only some adapters, other settings), with their reference."""
    from pipeline.stages.dpo.reference import run as refer

    config, inputs = stage_of(run, "dpo/train", **changes)
    chosen = {label: path for label, path in inputs.items() if label in (*keep, "weights", "rows")}
    (out / "checkpoints").mkdir(parents=True)
    refer(config, chosen, out, silent)
    return {**chosen, "reference": out}


def test_the_first_loss_is_ln_2_after_a_lora_fine_tuning(chained: Finished) -> None:
    """The reference is the fine-tuned policy, not the base below it."""
    _, inputs = stage_of(chained, "dpo/train")
    assert "adapter_0" in inputs
    first = chained.artifact("dpo/train")
    assert logged(first)[0] == pytest.approx(LN2, abs=1e-6)
    assert logged(first, "rewards/margins")[0] == pytest.approx(0, abs=1e-5)
    assert logged(first)[-1] < LN2 - 0.01


def test_a_reference_without_the_adapter_would_be_noticed(chained: Finished, tmp_path: Path) -> None:
    """The test above can fail: against the base model the first loss is another."""
    inputs = reference(chained, tmp_path / "reference", keep=())
    dpo(chained, tmp_path / "out", {"reference": inputs["reference"]}, max_steps=1)
    assert abs(logged(tmp_path / "out")[0] - LN2) > 1e-4


@pytest.mark.parametrize("adapter", [{"kind": "none"}, {"kind": "lora"}])
def test_the_first_loss_is_ln_2_on_a_full_model_and_on_a_fresh_adapter(
    chained: Finished, tmp_path: Path, adapter: dict[str, str]
) -> None:
    inputs = reference(chained, tmp_path / "reference", keep=(), adapter=adapter)
    from pipeline.stages.dpo.train import run as train

    (tmp_path / "out").mkdir()
    config, _ = stage_of(chained, "dpo/train", adapter=adapter, max_steps=2, learning_rate=1e-4)
    train(config, inputs, tmp_path / "out", silent)
    losses = logged(tmp_path / "out")
    assert losses[0] == pytest.approx(LN2, abs=1e-6)
    assert losses[1] != losses[0]


def plain_trl(run: Finished, file: Path, out: Path, **arguments: Any) -> list[float]:
    """Losses of TRL's own trainer on the rows' texts: its tokenisation, its reference, its order."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import DPOConfig, DPOTrainer

    config, inputs = stage_of(run, "dpo/train")
    by_id = {row["id"]: row for row in rows_of(run)}
    from datasets import load_from_disk

    order = load_from_disk(str(inputs["rows"] / "train"))["id"]
    tokenizer = AutoTokenizer.from_pretrained(inputs["weights"])
    tokenizer.chat_template = None
    set_seed(config["seed"])
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(inputs["weights"]),
        args=DPOConfig(
            **plain_settings(config, out),
            activation_checkpointing=False,
            dataloader_drop_last=True,
            **arguments,
        ),
        train_dataset=Dataset.from_list(
            [{side: by_id[name][side] for side in ("prompt", "chosen", "rejected")} for name in order]
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rows_of(run: Finished) -> list[dict[str, Any]]:
    from data_prep.rows import read_rows

    return read_rows(run.artifact("data/judged"), "train")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, judged: Path) -> Finished:
    """DPO on texts without a chat template, where TRL and we read the same rows; each answer begins with a space."""
    rows = [{**row, **{side: " " + row[side] for side in ("chosen", "rejected")}} for row in pairs()]
    file = write_rows(judged.with_name("plain.jsonl"), rows)
    finished = run_pipeline(
        tmp_path_factory.mktemp("plain"), *overrides(file, template="plain", separator="''"), "stages.dpo.max_steps=20"
    )
    assert finished.code == 0, finished.out + finished.err
    return finished


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (
            {"loss": {"robust": 1.0, "apo_zero": 0.5, "sft": 0.2}, "label_smoothing": 0.1, "beta": 0.3},
            {
                "loss_type": ["robust", "apo_zero", "sft"],
                "loss_weights": [1.0, 0.5, 0.2],
                "label_smoothing": 0.1,
                "beta": 0.3,
            },
        ),
        ({"loss": "ipo", "length_alpha": 0.5}, {"loss_type": "ipo", "ld_alpha": 0.5}),
        pytest.param({"loss": "aot", "weighting": False}, {"loss_type": "aot"}, marks=pytest.mark.slow),
        pytest.param(
            {"loss": "sigmoid", "weighting": True, "divergence": "alpha_divergence", "divergence_alpha": 0.7},
            {"use_weighting": True, "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"loss": "discopop", "discopop_tau": 0.1},
            {"loss_type": "discopop", "discopop_tau": 0.1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_losses_equal_a_plain_trl_trainer(
    plain: Finished, judged: Path, tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    if ours:
        inputs = reference(plain, tmp_path / "reference", keep=(), **ours)
        dpo(plain, tmp_path / "ours", inputs, **ours)
    losses = logged(tmp_path / "ours" if ours else plain.artifact("dpo/train"))
    assert len(losses) == 20
    assert losses == pytest.approx(plain_trl(plain, judged, tmp_path / "trl", **theirs), abs=1e-5)


def test_accumulation_changes_nothing(chained: Finished, tmp_path: Path) -> None:
    for micro in (None, 2, 1):
        dpo(chained, tmp_path / str(micro), micro_batch_size=micro)
    for name in ("loss", "rewards/margins", "rewards/accuracies"):
        whole = logged(tmp_path / "None", name)
        for micro in ("2", "1"):
            assert logged(tmp_path / micro, name) == pytest.approx(whole, abs=1e-5)


@pytest.mark.slow
def test_two_ranks_train_like_one(chained: Finished, judged: Path, tmp_path: Path) -> None:
    """Also the reference, whose rows the ranks share out, and the validation, whose rows do not divide by two."""
    command = overrides(judged, run="sft,dpo", validate_every="3", validation_rows="17")
    ranks = run_pipeline(tmp_path, *command, "launch=cpu_ranks", "launch.processes=2")
    assert ranks.code == 0, ranks.out + ranks.err
    two, one = ranks.artifact("dpo/train"), chained.artifact("dpo/train")
    assert two.name == one.name
    for file, names in (
        ("steps.jsonl", ("loss", "rewards/margins", "rewards/accuracies")),
        ("validation.jsonl", ("loss", "rewards/chosen", "rewards/margins", "rewards/accuracies")),
    ):
        for name in names:
            assert logged(two, name, file) == pytest.approx(logged(one, name, file), abs=1e-5)


def test_the_validation_equals_log_probabilities_by_hand(chained: Finished, tmp_path: Path) -> None:
    """Plain transformers and a float64 log-softmax, row by row: loss, margin and accuracy of 17 pairs."""
    import torch
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config, inputs = stage_of(chained, "dpo/train")
    model = AutoModelForCausalLM.from_pretrained(inputs["weights"])
    model = PeftModel.from_pretrained(model, inputs["adapter_0"]).merge_and_unload().eval()
    rows: Any = load_from_disk(str(inputs["rows"] / "validation"))
    rows = list(rows.select(range(17)))

    def answers(policy: Any) -> list[list[float]]:
        return [[log_probability(policy, row, side) for side in ("chosen", "rejected")] for row in rows]

    before = torch.tensor(answers(model), dtype=torch.float64)
    tuned = PeftModel.from_pretrained(model, chained.artifact("dpo/train") / "adapter").eval()
    rewards = config["beta"] * (torch.tensor(answers(tuned), dtype=torch.float64) - before)
    margins = rewards[:, 0] - rewards[:, 1]
    last = {name: logged(chained.artifact("dpo/train"), name, "validation.jsonl")[-1] for name in WATCHED}
    assert last["loss"] == pytest.approx(-torch.nn.functional.logsigmoid(margins).mean().item(), abs=1e-5)
    assert last["rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-4)
    assert last["rewards/accuracies"] == pytest.approx((margins > 0).double().mean().item(), abs=1e-9)


WATCHED = ("loss", "rewards/margins", "rewards/accuracies")


def log_probability(model: Any, row: dict[str, Any], side: str) -> float:
    """Sum over the supervised tokens of one side."""
    import torch

    ids, labels = torch.tensor([row[f"{side}_input_ids"]]), row[f"{side}_labels"]
    with torch.no_grad():
        scores = model(ids).logits[0].double().log_softmax(-1)
    return sum(float(scores[at - 1, label]) for at, label in enumerate(labels) if at and label != -100)


def test_the_report_shows_rewards_and_the_pairs(chained: Finished) -> None:
    report = chained.report
    training = report["training"]["dpo"]
    assert (
        training["steps"][-1]["rewards/accuracies"] == logged(chained.artifact("dpo/train"), "rewards/accuracies")[-1]
    )
    assert [preview["id"].rsplit(" ", 1)[1] for preview in training["preview"][:2]] == ["chosen", "rejected"]
    stage = next(stage for stage in report["stages"] if stage["name"] == "dpo/train")
    assert {"last_accuracy", "last_margin", "validation_accuracy", "validation_loss"} <= set(stage["metrics"])


def test_fewer_pairs_than_a_batch_are_refused(chained: Finished, tmp_path: Path) -> None:
    from data_prep.errors import DataError

    with pytest.raises(DataError, match=r"\d+ training rows do not fill one batch of 512; lower batch_size"):
        dpo(chained, tmp_path, batch_size=512)

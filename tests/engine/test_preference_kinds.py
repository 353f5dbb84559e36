"""KTO, ORPO and SimPO against TRL's own trainers on the same texts, 20 steps each."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.progress import silent
from tests.conftest import Finished, run_pipeline
from tests.engine.plain_trl import plain_settings
from tests.engine.preference_rows import logged, overrides, pairs, stage_of, write_rows

pytestmark = pytest.mark.end_to_end


def run_of(folder: Path, kind: str, rows: list[dict[str, Any]], **fields: str) -> Finished:
    file = write_rows(folder / "rows.jsonl", rows)
    command = overrides(file, kind, run=kind, template="plain", separator="''", validate_every="10", **fields)
    finished = run_pipeline(folder / "outputs", *command, f"stages.{kind}.max_steps=20")
    assert finished.code == 0, finished.out + finished.err
    return finished


def spaced(row: dict[str, Any]) -> dict[str, Any]:
    """Answers that begin with a space, so that prompt and answer share no token in any tokenisation."""
    return {name: f" {value}" if name in ("chosen", "rejected", "completion") else value for name, value in row.items()}


def plain_trl(run: Finished, kind: str, config_class: Any, trainer_class: Any, rows: list[dict[str, Any]], **more: Any):
    """Losses of TRL's own trainer: its tokenisation, its reference, its batches."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    config, inputs = stage_of(run, f"{kind}/train")
    tokenizer = AutoTokenizer.from_pretrained(inputs["weights"])
    tokenizer.chat_template = None
    tokenizer.bos_token = None  # the older trainers put one before every prompt, though the tokenizer itself does not
    set_seed(config["seed"])
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(inputs["weights"]),
        args=config_class(
            **plain_settings(config, run.outputs / "trl"),
            activation_checkpointing=False,
            dataloader_drop_last=True,
            **more,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trained_rows(run: Finished, kind: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The training rows in the order in which they were prepared."""
    from data_prep.rows import read_rows

    return [{name: row[name] for name in columns} for row in read_rows(run.artifact("data/judged"), "train")]


@pytest.mark.parametrize("kind", ["orpo", "simpo"])
def test_losses_without_a_reference_equal_a_plain_trl_trainer(tmp_path: Path, kind: str) -> None:
    run = run_of(tmp_path, kind, [spaced(row) for row in pairs()])
    rows = trained_rows(run, kind, ("prompt", "chosen", "rejected"))
    if kind == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        theirs = plain_trl(run, kind, ORPOConfig, ORPOTrainer, rows, beta=0.1)
    else:
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        objective = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}
        theirs = plain_trl(run, kind, CPOConfig, CPOTrainer, rows, **objective)
    ours = logged(run.artifact(f"{kind}/train"))
    assert len(ours) == 20
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert logged(run.artifact(f"{kind}/train"), "rewards/accuracies", "validation.jsonl")[-1] > 0.5


def answers(count: int = 96) -> list[dict[str, Any]]:
    """Rows of KTO's own form; two good answers for one bad one."""
    return [
        spaced({"prompt": row["prompt"], "completion": row["chosen" if n % 3 else "rejected"], "label": bool(n % 3)})
        for n, row in enumerate(pairs(count))
    ]


@pytest.mark.parametrize(
    ("fields", "objective"),
    [
        ({}, {}),
        (
            {"loss": "apo_zero_unpaired", "desirable_weight": "1.5", "undesirable_weight": "0.7", "beta": "0.2"},
            {"loss_type": "apo_zero_unpaired", "desirable_weight": 1.5, "undesirable_weight": 0.7, "beta": 0.2},
        ),
    ],
)
def test_kto_losses_equal_a_plain_trl_trainer(
    tmp_path: Path, fields: dict[str, str], objective: dict[str, Any]
) -> None:
    from trl import KTOConfig, KTOTrainer

    from pipeline.stages.kto.config import KtoTrainConfig
    from pipeline.stages.kto.train import ordered_rows

    run = run_of(tmp_path, "kto", answers(), **fields)
    config, inputs = stage_of(run, "kto/train")
    order = ordered_rows(KtoTrainConfig.model_validate(config), inputs, "train")._order
    rows = trained_rows(run, "kto", ("prompt", "completion", "label"))
    same = [rows[place] for place in order]
    theirs = plain_trl(run, "kto", KTOConfig, KTOTrainer, same, train_sampling_strategy="sequential", **objective)
    assert logged(run.artifact("kto/train")) == pytest.approx(theirs, abs=1e-5)
    last = run.artifact("kto/train")
    assert (
        logged(last, "rewards/chosen", "validation.jsonl")[-1]
        > logged(last, "rewards/rejected", "validation.jsonl")[-1]
    )


def test_kto_takes_a_pair_as_two_answers(tmp_path: Path) -> None:
    from data_prep.config import DatasetConfig
    from data_prep.load import load
    from data_prep.tokens.answers import answers_of

    file = write_rows(tmp_path / "pairs.jsonl", pairs(4))
    load("judged", DatasetConfig(source=str(file)), tmp_path / "rows", None)
    from data_prep.rows import SPLITS, read_rows

    rows = [row for split in SPLITS for row in read_rows(tmp_path / "rows", split)]
    made = [answer for row in rows for answer in answers_of(row)]
    assert len(made) == 8
    assert {answer["label"] for answer in made if answer["id"].endswith("chosen")} == {True}
    assert {answer["completion"] for answer in made} == {row[side] for row in rows for side in ("chosen", "rejected")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kto", "orpo", "simpo"])
def test_a_resume_ends_like_the_whole(tmp_path: Path, kind: str) -> None:
    """The same training in one process: as it was, and continued from its own checkpoint."""
    import importlib
    import shutil

    run = run_of(tmp_path, kind, answers() if kind == "kto" else [spaced(row) for row in pairs()])
    config, inputs = stage_of(run, f"{kind}/train", checkpoint_every=7)
    train = importlib.import_module(f"pipeline.stages.{kind}.train").run
    again = tmp_path / "again"
    again.mkdir()
    train(config, inputs, again, silent)
    whole = run.artifact(f"{kind}/train")
    assert (again / "steps.jsonl").read_bytes() == (whole / "steps.jsonl").read_bytes()
    for name in ("adapter", "steps.jsonl", "validation.jsonl"):
        path = again / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert sorted(path.name for path in (again / "checkpoints").glob("checkpoint-*")) == [
        "checkpoint-14",
        "checkpoint-7",
    ]
    train(config, inputs, again, silent)
    for file in ("steps.jsonl", "validation.jsonl", "adapter/adapter_model.safetensors"):
        assert (again / file).read_bytes() == (whole / file).read_bytes(), file

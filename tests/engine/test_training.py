"""Training numbers against independent ones: plain transformers, other batch splits, other numbers of ranks."""

import json
import math
from pathlib import Path

import pytest
import yaml

from data_prep.progress import silent
from tests.conftest import Finished, run_pipeline
from tests.engine.plain_trl import plain_settings

pytestmark = pytest.mark.end_to_end


def losses(folder: Path, file: str = "steps.jsonl") -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def stage_of(smoke: Finished, **changes: object) -> tuple[dict, dict[str, Path]]:
    """The smoke run's training node, to be run again here with some settings changed."""
    stage = yaml.safe_load((smoke.artifact("sft/train") / "stage.yaml").read_text(encoding="utf-8"))
    return stage["config"] | changes, {label: Path(path) for label, path in stage["inputs"].items()}


def train(smoke: Finished, out: Path, **changes: object) -> dict[str, float]:
    from pipeline.stages.sft.train import run

    out.mkdir(parents=True, exist_ok=True)
    config, inputs = stage_of(smoke, **changes)
    return run(config, inputs, out, silent)


def plain_losses(model, rows: list[dict]) -> tuple[float, int]:
    """Summed nats and count of the supervised tokens by plain transformers and a float64 log-softmax, row by row."""
    import torch

    nats, tokens = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            log_probabilities = model(ids).logits[0].double().log_softmax(-1)
        for position in range(1, len(labels)):
            if labels[position] != -100:
                nats -= log_probabilities[position - 1, labels[position]].item()
                tokens += 1
    return nats, tokens


def test_the_first_loss_equals_plain_transformers(smoke: Finished, tmp_path: Path) -> None:
    """One batch of all rows, before any update: LoRA starts as the base model."""
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM

    rows = load_from_disk(str(smoke.artifact("sft/prepare") / "train"))
    train(smoke, tmp_path, batch_size=len(rows), max_steps=1, validate_every=1, validation_rows=1000)
    model = AutoModelForCausalLM.from_pretrained(smoke.artifact("model") / "model").eval()
    nats, tokens = plain_losses(model, list(rows))
    assert losses(tmp_path)[0] == pytest.approx(nats / tokens, abs=1e-6)


def test_the_validation_loss_is_per_token(smoke: Finished, tmp_path: Path) -> None:
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    train(smoke, tmp_path, max_steps=2, validate_every=2, validation_rows=1000)
    rows = load_from_disk(str(smoke.artifact("sft/prepare") / "validation"))
    base = AutoModelForCausalLM.from_pretrained(smoke.artifact("model") / "model")
    nats, tokens = plain_losses(PeftModel.from_pretrained(base, tmp_path / "adapter").eval(), list(rows))
    assert losses(tmp_path, "validation.jsonl") == [pytest.approx(nats / tokens, abs=1e-6)]


def test_the_end_of_turn_is_trained_although_it_is_the_pad_token(smoke: Finished) -> None:
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for row in load_from_disk(str(smoke.artifact("sft/prepare") / "train")):
        supervised = [label for label in row["labels"] if label != -100]
        assert supervised[-1] == tokenizer.eos_token_id
        prompt = row["input_ids"][: row["labels"].index(supervised[0])]
        assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


def test_accumulation_changes_nothing(smoke: Finished, tmp_path: Path) -> None:
    for micro in (None, 2, 1):
        train(smoke, tmp_path / str(micro), max_steps=6, micro_batch_size=micro)
    whole = losses(tmp_path / "None")
    for micro in ("2", "1"):
        assert losses(tmp_path / micro) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("kind", ["lora", "none"])
def test_losses_equal_a_plain_trl_trainer(smoke: Finished, tmp_path: Path, kind: str) -> None:
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    changes = {} if kind == "lora" else {"adapter": {"kind": "none"}, "learning_rate": 1e-3}
    train(smoke, tmp_path / "ours", max_steps=20, **changes)
    config, inputs = stage_of(smoke, **changes)
    set_seed(config["seed"])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(inputs["weights"]),
        args=SFTConfig(
            **plain_settings(config, tmp_path / "trl"),
            activation_checkpointing=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=load_from_disk(str(inputs["rows"] / "train")).remove_columns("id"),
        processing_class=AutoTokenizer.from_pretrained(inputs["weights"]),
        peft_config=None
        if kind == "none"
        else LoraConfig(
            r=config["adapter"]["r"],
            lora_alpha=config["adapter"]["alpha"],
            target_modules="all-linear",
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses(tmp_path / "ours") == pytest.approx(theirs, abs=1e-5)


def test_two_ranks_train_like_one(smoke: Finished, tmp_path: Path) -> None:
    ranks = run_pipeline(tmp_path, "+experiment=smoke", "run=[filter,sft]", "launch=cpu_ranks", "launch.processes=2")
    assert ranks.code == 0, ranks.err
    two, one = ranks.artifact("sft/train"), smoke.artifact("sft/train")
    assert two.name == one.name  # the launch is no part of the fingerprint
    for file in ("steps.jsonl", "validation.jsonl"):
        assert losses(two, file) == pytest.approx(losses(one, file), abs=1e-5)
    assert {"rank0.log", "rank1.log"} <= {path.name for path in (two / "logs").iterdir()}


def test_full_fine_tuning_leaves_a_whole_model(smoke: Finished, tmp_path: Path) -> None:
    full = run_pipeline(
        tmp_path, "+experiment=smoke", "adapter@stages.sft.adapter=none", "stages.sft.learning_rate=3e-3"
    )
    assert full.code == 0, full.err
    assert (full.artifact("sft/train") / "model" / "model.safetensors").exists()
    assert full.report["verdict"]["verdict"] == "better"


def test_a_second_stage_starts_from_the_first(smoke: Finished, tmp_path: Path) -> None:
    """An adapter on an adapter: on the same first batch (same seed) it starts better than the base model did."""
    second = "{kind: sft, learning_rate: 1e-4, batch_size: 8, max_steps: 2, max_length: 256}"
    chained = run_pipeline(tmp_path, "+experiment=smoke", "run=[filter,sft,more,evaluate]", f"stages.more={second}")
    assert chained.code == 0, chained.err
    first, then = losses(chained.artifact("sft/train")), losses(chained.artifact("more/train"))
    assert then[0] < first[0] - 0.1
    assert set(chained.report["evaluation"]["models"]) == {"base", "more"}


def test_a_loss_that_is_no_number_stops_the_stage(smoke: Finished, tmp_path: Path) -> None:
    """An infinite loss: every logit overflows after one enormous step."""
    from pipeline.errors import StageFailed

    with pytest.raises(StageFailed, match=r"the loss of step \d+ is (nan|inf); lower learning_rate"):
        train(smoke, tmp_path, learning_rate=1e30, max_steps=6, max_grad_norm=1e30)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "expected"),
    [(8, None, 1, (8, 1)), (8, None, 2, (4, 1)), (8, 2, 2, (2, 2)), (8, 16, 1, (8, 1)), (6, 1, 3, (1, 2))],
)
def test_the_global_batch_is_shared_out(
    batch: int, micro: int | None, processes: int, expected: tuple[int, int]
) -> None:
    from pipeline.training.config import split_batch

    per_device, accumulation = split_batch(batch, micro, processes)
    assert (per_device, accumulation) == expected
    assert per_device * accumulation * processes == batch


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    from pipeline.errors import ConfigError
    from pipeline.training.config import split_batch

    with pytest.raises(ConfigError, match="batch_size 8 cannot be shared by 3 processes; make it a multiple of 3"):
        split_batch(8, None, 3)
    with pytest.raises(ConfigError, match="micro_batch_size 3 does not divide the 8 sequences"):
        split_batch(8, 3, 1)


def test_unknown_target_modules_are_answered_with_those_that_exist(smoke: Finished, tmp_path: Path) -> None:
    from pipeline.errors import StageFailed

    adapter = {"kind": "lora", "r": 4, "alpha": 8.0, "dropout": 0.0, "target": ["q_prj"]}
    with pytest.raises(
        StageFailed, match=r"adapter.target: no linear layer named \['q_prj'\]; the model has down_proj"
    ):
        train(smoke, tmp_path, adapter=adapter)


def test_a_checkpoint_of_other_settings_is_refused(smoke: Finished, tmp_path: Path) -> None:
    """A folder that somebody copied; more steps and other devices are no other settings."""
    from pipeline.errors import StageFailed

    train(smoke, tmp_path, max_steps=3, checkpoint_every=2)
    train(smoke, tmp_path, max_steps=4, checkpoint_every=1, micro_batch_size=2)
    adapter = stage_of(smoke)[0]["adapter"]
    expected = r"made with other settings \(adapter.r was \d+, is 3; learning_rate was .*, is 0.25\); set them back, or"
    with pytest.raises(StageFailed, match=expected):
        train(smoke, tmp_path, max_steps=5, learning_rate=0.25, adapter={**adapter, "r": 3})


def test_the_log_is_whole_after_a_torn_line(tmp_path: Path) -> None:
    from pipeline.training.step_log import cut_back, read_log

    log = tmp_path / "steps.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo', encoding="utf-8")
    assert [line["step"] for line in read_log(log)] == [1, 2]
    cut_back(log, 1)
    assert read_log(log) == [{"step": 1, "loss": 2.0}]
    assert math.isfinite(read_log(log)[0]["loss"])

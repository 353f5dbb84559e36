"""Pretraining against independent numbers: documents alone, plain transformers, other batch splits and ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.progress import silent
from tests.conftest import Finished, run_pipeline

pytestmark = pytest.mark.end_to_end

TINY = [
    "+experiment=scratch_llama",
    "data=sample",
    "model.architecture.hidden_size=32",
    "model.architecture.intermediate_size=64",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.vocab_size=400",
    "run=[tokenizer,pretrain,evaluate]",
    "stages.pretrain.rows=all",
    "stages.pretrain.max_length=96",
    "stages.pretrain.batch_size=4",
    "stages.pretrain.max_steps=12",
    "stages.pretrain.warmup_steps=2",
    "stages.pretrain.validate_every=6",
    "stages.pretrain.checkpoint_every=5",
    "stages.evaluate.perplexity={max_rows: 20}",
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A nano Llama from nothing: tokenizer, first weights, packed rows, training, perplexity, report."""
    finished = run_pipeline(tmp_path_factory.mktemp("scratch"), *TINY)
    assert finished.code == 0, finished.out + finished.err
    return finished


def losses(folder: Path, file: str = "steps.jsonl") -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def train(run: Finished, out: Path, rows: Path | None = None, **changes: object) -> list[float]:
    """The run's training node again with some settings changed; its losses."""
    from pipeline.stages.pretrain.train import run as node

    stage = yaml.safe_load((run.artifact("pretrain/train") / "stage.yaml").read_text(encoding="utf-8"))
    inputs = {label: Path(path) for label, path in stage["inputs"].items()} | ({"rows": rows} if rows else {})
    out.mkdir(parents=True, exist_ok=True)
    node(stage["config"] | changes, inputs, out, silent)
    return losses(out)


def first_model(run: Finished, attention: str = "sdpa") -> Any:
    from transformers import AutoModelForCausalLM

    import pipeline.models  # noqa: F401

    return AutoModelForCausalLM.from_pretrained(run.artifact("model") / "model", attn_implementation=attention)


def packed_rows(run: Finished, split: str = "train") -> list[dict]:
    from datasets import load_from_disk

    return list(load_from_disk(str(run.artifact("pretrain/prepare") / split)))  # pyright: ignore[reportReturnType]


def alone(model: Any, rows: list[dict]) -> tuple[float, int]:
    """Nats and tokens of every document by itself, by a float64 log-softmax, without packing."""
    import torch

    nats, count = 0.0, 0
    for row in rows:
        place = 0
        for length in row["lengths"]:
            ids = torch.tensor([row["input_ids"][place : place + length]])
            place += length
            with torch.no_grad():
                logits = model(ids, use_cache=False).logits[0].double().log_softmax(-1)
            nats -= sum(logits[at - 1, ids[0, at]].item() for at in range(1, length))
            count += length - 1
    return nats, count


def family(name: str) -> Any:
    """A tiny random model of a family of transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8}
    if name == "gpt2":
        sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes)).eval()


SHARED = [
    {"input_ids": list(range(3, 25)), "lengths": [5, 1, 9, 7]},
    {"input_ids": list(range(30, 44)), "lengths": [6, 8]},
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "mistral"])
def test_a_packed_document_is_as_alone(name: str, attention: str) -> None:
    """Logits to 1e-5 in evaluation mode, where the cache would be on; and no gradient reaches another document."""
    import torch

    from pipeline.training.packed import leak, packed_batch

    model = family(name)
    model.set_attn_implementation(attention)
    assert leak(model, SHARED) < 1e-5
    batch = packed_batch(SHARED, pad=0)
    assert batch["position_ids"][1].tolist() == [*range(6), *range(8), *range(8)]
    assert (batch["labels"][0] == -100).nonzero().flatten().tolist() == [0, 5, 6, 15]
    embedded = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, position_ids=batch["position_ids"], use_cache=False).logits
    logits[0, 6:15].square().sum().backward()
    touched = embedded.grad.abs().sum(-1)[0] > 0
    assert touched.nonzero().flatten().tolist() == list(range(6, 15))
    with torch.no_grad():
        assert torch.isfinite(logits).all()


def test_with_a_cache_packed_documents_would_see_each_other() -> None:
    """Why each batch says `use_cache: False`: should this fail one day, the switch is no longer needed."""
    import torch

    from pipeline.training.packed import packed_batch

    model, batch = family("llama"), packed_batch(SHARED[:1], pad=0)
    ids, positions = batch["input_ids"], batch["position_ids"]
    with torch.no_grad():
        leaking = model(ids, position_ids=positions).logits[0, 6:15]
        kept_apart = model(ids, position_ids=positions, use_cache=False).logits[0, 6:15]
    assert (leaking - kept_apart).abs().max() > 1e-2
    assert batch["use_cache"] is False


def test_a_model_that_mixes_documents_is_refused() -> None:
    from pipeline.training.packed import leak

    model = family("llama")
    forward = model.forward
    model.forward = lambda position_ids=None, **inputs: forward(**inputs)
    assert leak(model, SHARED) > 1e-3
    assert leak(model, [{"input_ids": [1, 2, 3], "lengths": [3]}]) == 0.0


def test_the_chain_ends_in_a_verdict_on_bits_per_byte(scratch: Finished) -> None:
    comparison = scratch.report["evaluation"]["comparisons"]["pretrain_vs_base"]["perplexity/sample"]["bits_per_byte"]
    assert comparison["tuned"] < comparison["base"] and comparison["verdict"] == "better"
    training = scratch.report["training"]["pretrain"]
    assert len(training["steps"]) == 12 and [point["step"] for point in training["validation"]] == [6, 12]


def test_the_first_and_the_validation_loss_equal_documents_alone(scratch: Finished, tmp_path: Path) -> None:
    """The validation loss too is measured on packed rows."""
    rows = packed_rows(scratch)
    assert max(len(row["lengths"]) for row in rows) > 1
    first = train(
        scratch, tmp_path, batch_size=len(rows), max_steps=1, warmup_steps=0, validate_every=1, validation_rows=1000
    )
    nats, count = alone(first_model(scratch).eval(), rows)
    assert first[0] == pytest.approx(nats / count, abs=1e-5)
    from transformers import AutoModelForCausalLM

    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    nats, count = alone(trained, packed_rows(scratch, "validation"))
    assert losses(tmp_path, "validation.jsonl") == [pytest.approx(nats / count, abs=1e-5)]


def test_packed_trains_like_unpacked(scratch: Finished, tmp_path: Path) -> None:
    """The same documents in a batch, sharing rows or one per row: the same losses, step by step."""
    from datasets import Dataset

    from pipeline.artifacts import write_json

    pieces = []
    for row in packed_rows(scratch)[:4]:
        place = 0
        for length in row["lengths"]:
            pieces.append(
                {"input_ids": row["input_ids"][place : place + length], "lengths": [length], "documents": [""]}
            )
            place += length
    for name, rows in (("packed", packed_rows(scratch)[:4]), ("alone", pieces)):
        Dataset.from_list(rows).save_to_disk(str(tmp_path / name / "train"))
        write_json(tmp_path / name / "audit.json", {"splits": {"train": {"tokens": 1, "rows": 1}}})
    common = {"max_steps": 5, "validate_every": None}
    packed = train(scratch, tmp_path / "a", tmp_path / "packed", batch_size=4, **common)
    apart = train(scratch, tmp_path / "b", tmp_path / "alone", batch_size=len(pieces), packed=False, **common)
    assert packed == pytest.approx(apart, abs=1e-5)


def test_accumulation_changes_nothing(scratch: Finished, tmp_path: Path) -> None:
    whole = losses(scratch.artifact("pretrain/train"))
    for micro in (2, 1):
        assert train(scratch, tmp_path / str(micro), micro_batch_size=micro) == pytest.approx(whole, abs=1e-5)


@pytest.mark.slow
def test_two_ranks_train_like_one(scratch: Finished, tmp_path: Path) -> None:
    two = run_pipeline(tmp_path, *TINY, "run=[tokenizer,pretrain]", "launch=cpu_ranks", "launch.processes=2")
    assert two.code == 0, two.err
    ranks, one = two.artifact("pretrain/train"), scratch.artifact("pretrain/train")
    assert ranks.name == one.name
    for file in ("steps.jsonl", "validation.jsonl"):
        assert losses(ranks, file) == pytest.approx(losses(one, file), abs=1e-5)


def test_a_run_that_was_killed_goes_on_bitwise(scratch: Finished, tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped after step 8, the last checkpoint is that of step 5: the rest is made again, to the last bit."""
    from pipeline.training.step_log import StepLog

    written = StepLog.on_log

    def fall(self: StepLog, args: Any, state: Any, control: Any, **more: Any) -> None:
        written(self, args, state, control, **more)
        if state.global_step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(StepLog, "on_log", fall)
    with pytest.raises(KeyboardInterrupt):
        train(scratch, tmp_path)
    monkeypatch.undo()
    train(scratch, tmp_path)
    whole = scratch.artifact("pretrain/train")
    for file in ("steps.jsonl", "validation.jsonl", "model/model.safetensors", "model/tokenizer.json"):
        assert (tmp_path / file).read_bytes() == (whole / file).read_bytes(), file

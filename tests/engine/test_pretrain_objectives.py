"""Masked and denoising models: transformers' own families and ours, by the same trainer, with exact losses."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.progress import silent
from data_prep.rows import write_rows
from data_prep.tokens.vocabulary.config import SpecialTokens, VocabularyConfig
from data_prep.tokens.vocabulary.train import train_tokenizer
from pipeline.training.config import NoAdapter

pytestmark = pytest.mark.end_to_end

TEXTS = [f"Item {n}: the {'quick ' * (n % 5)}fox number {n * 7} met {n % 3} dogs." for n in range(40)]
SPECIAL = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": None, "sentinels": 20}
OWN: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("masked", {**OWN, "model_type": "bert", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "own encoder": ("masked", {**OWN, "shape": "encoder", "positions": "learned"}),
    "t5": (
        "denoising",
        {"model_type": "t5", "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8,
         "dropout_rate": 0.0},
    ),
    "own encoder–decoder": ("denoising", {**OWN, "shape": "encoder_decoder", "positions": "t5"}),
    "gpt2": (
        "causal",
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0,
         "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
    "own mixture": (
        "causal",
        {**OWN, "num_experts": 4, "experts_per_token": 2, "expert_intermediate_size": 24, "router_bias": True},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=ARCHITECTURES)
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """The first weights of an architecture, and its rows, by the nodes themselves."""
    from pipeline.stages.model.start import run as first_weights
    from pipeline.stages.pretrain.prepare import run as prepare

    folder = tmp_path_factory.mktemp("start")
    objective, architecture = ARCHITECTURES[request.param]
    config = VocabularyConfig(vocab_size=320, special=SpecialTokens.model_validate(SPECIAL))
    train_tokenizer(TEXTS, config).save_pretrained(folder / "tokenizer")
    node = {"architecture": architecture, "seed": 3}
    (folder / "start").mkdir()
    first_weights(node, {"tokenizer": folder / "tokenizer"}, folder / "start", silent)
    write_rows(folder / "data", "train", ({"id": f"t{n}", "text": text} for n, text in enumerate(TEXTS[:32])))
    write_rows(folder / "data", "validation", ({"id": f"v{n}", "text": text} for n, text in enumerate(TEXTS[32:])))
    corpus = {"objective": objective, "max_length": 48}
    settings = {"corpus": corpus, "seed": 0, "stage": "pretrain", "trust_remote_code": False}
    inputs = {"weights": folder / "start" / "model", "dataset": folder / "data"}
    prepare(settings, inputs, folder / "rows", silent)
    return objective, {"weights": folder / "start" / "model", "rows": folder / "rows"}


def train(start: tuple[str, dict[str, Path]], out: Path, **changes: object) -> list[float]:
    from pipeline.stages.pretrain.config import PretrainTrainConfig
    from pipeline.stages.pretrain.train import run

    settings: dict[str, Any] = {
        "objective": start[0], "packed": start[0] == "causal", "seed": 1, "dtype": "float32", "attention": "sdpa",
        "trust_remote_code": False, "adapter": NoAdapter(), "learning_rate": 3e-3, "batch_size": 8, "max_steps": 6,
    }  # fmt: skip
    out.mkdir(parents=True)
    config = PretrainTrainConfig.model_validate(settings | changes)
    run(config.model_dump(mode="json"), start[1], out, silent)
    return [json.loads(line)["loss"] for line in (out / "steps.jsonl").read_text().splitlines()]


def plain_nats(model: Any, row: dict[str, Any], objective: str) -> tuple[float, int]:
    """One row by itself in plain transformers, a float64 log-softmax on its logits."""
    import torch

    ids = torch.tensor([row["input_ids"]])
    if objective == "causal":
        pieces = torch.split(ids[0], row["lengths"])
        shown = [model(input_ids=piece[None]).logits[0, :-1] for piece in pieces]
        logits, labels = torch.cat(shown), torch.cat([piece[1:] for piece in pieces])
    else:
        labels = torch.tensor(row["labels"])
        more = {"labels": labels[None]} if objective == "denoising" else {}
        logits = model(input_ids=ids, **more).logits[0]
    with torch.no_grad():
        wanted = labels != -100
        found = logits.double().log_softmax(-1)[wanted].gather(1, labels[wanted][:, None])
    return -found.sum().item(), int(wanted.sum())


def test_first_and_validation_loss_equal_plain_transformers(start: tuple[str, dict[str, Path]], tmp_path: Path) -> None:
    """In one batch with its padding, and row by row without: nats per labelled token."""
    from datasets import load_from_disk

    from pipeline.training.models import load_weights

    objective, inputs = start
    rows: Any = load_from_disk(str(inputs["rows"] / "train"))
    first = train(start, tmp_path / "a", batch_size=len(rows), max_steps=1, validate_every=1, validation_rows=999)[0]
    model = load_weights(inputs["weights"], "float32", "sdpa", False).eval()
    sums = [plain_nats(model, row, objective) for row in rows]
    assert first == pytest.approx(sum(nats for nats, _ in sums) / sum(count for _, count in sums), abs=1e-5)
    trained = load_weights(tmp_path / "a" / "model", "float32", "sdpa", False).eval()
    held_out: Any = load_from_disk(str(inputs["rows"] / "validation"))
    sums = [plain_nats(trained, row, objective) for row in held_out]
    expected = sum(nats for nats, _ in sums) / sum(count for _, count in sums)
    found = json.loads((tmp_path / "a" / "validation.jsonl").read_text())["loss"]
    assert found == pytest.approx(expected, abs=1e-5)


def test_accumulation_changes_nothing(start: tuple[str, dict[str, Path]], tmp_path: Path) -> None:
    whole = train(start, tmp_path / "whole")
    assert train(start, tmp_path / "two", micro_batch_size=2) == pytest.approx(whole, abs=1e-5)


def test_an_objective_that_does_not_fit_is_refused(start: tuple[str, dict[str, Path]], tmp_path: Path) -> None:
    from data_prep.errors import DataError
    from pipeline.stages.pretrain.prepare import run as prepare

    objective, inputs = start
    other = "masked" if objective == "causal" else "causal"
    settings = {"corpus": {"objective": other}, "seed": 0, "stage": "first", "trust_remote_code": False}
    with pytest.raises(DataError, match=rf"stages.first.objective: {other} does not fit .*; set objective={objective}"):
        prepare(settings, {"weights": inputs["weights"], "dataset": tmp_path}, tmp_path / "out", silent)


def test_what_is_no_decoder_is_not_evaluated(start: tuple[str, dict[str, Path]], tmp_path: Path) -> None:
    from data_prep.errors import DataError
    from pipeline.stages.evaluate.predict import run as predict

    if start[0] == "causal":
        pytest.skip("decoders are evaluated")
    settings = {
        "dataset": "x", "template": "auto", "perplexity": {}, "generation": None, "task": None, "dtype": "float32",
        "attention": "sdpa", "trust_remote_code": False,
    }  # fmt: skip
    with pytest.raises(DataError, match="evaluation reads decoders; its pretrain stage measures its validation loss"):
        predict(settings, {"weights": start[1]["weights"], "dataset": tmp_path}, tmp_path, silent)

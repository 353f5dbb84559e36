"""The tokenizer stage in the plan, and new tokens in the embeddings of a model."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.progress import silent
from data_prep.rows import write_rows
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import make_plan
from pipeline.stages.model.config import architecture_fields


def planned(tmp_path: Path, *overrides: str) -> dict[str, str]:
    """Node name → fingerprint."""
    config = validate(RunConfig, compose(["+experiment=scratch_gpt", "data=sample", f"outputs={tmp_path}", *overrides]))
    return {step.node.name: step.node.fingerprint for step in make_plan(config).steps}


def refusal(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, *overrides)
    return str(caught.value)


def test_a_model_from_scratch_waits_for_its_tokenizer(tmp_path: Path) -> None:
    assert list(planned(tmp_path)) == [
        "data/sample", "filter/measure", "filter", "tokenizer", "model", "pretrain/prepare", "pretrain/train",
        "evaluate/base", "evaluate/pretrain", "evaluate/baseline/sample", "evaluate/pretrain_vs_base",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("stages.tokenizer.min_frequency=3", "tokenizer"),
        ("model.architecture.num_hidden_layers=3", "model"),
        ("stages.pretrain.max_length=128", "pretrain/prepare"),
        ("stages.pretrain.learning_rate=1e-3", "pretrain/train"),
    ],
)
def test_a_change_reaches_what_follows_and_nothing_before(tmp_path: Path, override: str, changed: str) -> None:
    before, after = planned(tmp_path), planned(tmp_path, override)
    different = [name for name in before if before[name] != after[name]]
    assert different == list(before)[list(before).index(changed) :] or different[0] == changed


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["run=[pretrain]"],
            "run: the model is an architecture without a tokenizer; put a stage of kind tokenizer first",
        ),
        (["model=tiny"], "stages.tokenizer: the model has a tokenizer already; add: extends it"),
        (["stages.tokenizer.datasets=[rows]"], "stages.tokenizer.datasets: no data set 'rows' to train on; there are"),
        (["stages.tokenizer.add={learn: 5}", "stages.tokenizer.vocab_size=99"], "vocab_size: belongs to a new"),
        (["stages.tokenizer.add={}"], "nothing to add: name tokens, or set learn"),
        (["model.architecture.hiden_size=3"], "architecture.hiden_size: unknown; did you mean hidden_size?"),
        (["stages.pretrain.objective=masked", "stages.pretrain.adapter={kind: lora}"], "goes with objective=causal"),
        (["stages.pretrain.copies=2"], "copies: has no meaning with objective=causal; remove it"),
    ],
)
def test_what_cannot_be_is_refused_by_the_plan(tmp_path: Path, overrides: list[str], expected: str) -> None:
    assert expected in refusal(tmp_path, *overrides)


def test_the_fields_read_from_the_source_are_those_of_the_class() -> None:
    from transformers import PreTrainedConfig

    from pipeline.models import ProvetuneConfig

    inherited = set(PreTrainedConfig.__annotations__) - set(ProvetuneConfig.__annotations__)
    assert set(architecture_fields()) <= set(ProvetuneConfig.__annotations__)
    assert not set(architecture_fields()) & inherited and "vocab_size" in architecture_fields()
    assert ProvetuneConfig(**{name: getattr(ProvetuneConfig(), name) for name in architecture_fields()})


def saved_model(folder: Path, tied: bool) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    from data_prep.tokens.vocabulary.config import VocabularyConfig
    from data_prep.tokens.vocabulary.train import train_tokenizer

    tokenizer = train_tokenizer(["x"], VocabularyConfig(algorithm="byte"))
    set_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=tied,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_the_mean_of_their_pieces(tmp_path: Path, tied: bool) -> None:
    """Input and output embeddings alike; the old rows, and the model's answers to old tokens, stay as they were."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipeline.stages.tokenizer.extend import run

    weights = saved_model(tmp_path / "weights", tied)
    write_rows(tmp_path / "rows", "train", [{"id": str(n), "text": "deep nets learn deep features"} for n in range(5)])
    config = {"tokens": ["<tool>"], "learn": 2, "min_frequency": 5, "trust_remote_code": False}
    metrics = run(config, {"weights": weights, "rows.x": tmp_path / "rows"}, tmp_path, silent)
    assert metrics == {"tokens_in_vocabulary": 261.0, "added_tokens": 3.0}
    old: Any = AutoModelForCausalLM.from_pretrained(weights)
    new: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer, before = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "model", weights))
    assert tokenizer.tokenize("<tool>deep") == ["<tool>", "deep"] and len(tokenizer) == 261
    assert tokenizer.tokenize("deeper") == list("deeper")  # a learned word is no part of another
    for table in ("get_input_embeddings", "get_output_embeddings"):
        rows, grown = getattr(old, table)().weight, getattr(new, table)().weight
        assert torch.equal(grown[:258], rows) and grown.shape[0] == 261
        for token in ("<tool>", "deep", "features"):
            pieces = before(token, add_special_tokens=False)["input_ids"]
            mean = torch.stack([rows[piece] for piece in pieces]).mean(0)
            assert torch.allclose(grown[tokenizer.convert_tokens_to_ids(token)], mean, atol=1e-7)
    ids = torch.tensor([before("ab c")["input_ids"]])
    assert torch.allclose(new(ids).logits[..., :258], old(ids).logits, atol=1e-6)
    assert (new.get_output_embeddings().weight is new.get_input_embeddings().weight) == tied

"""Every kind of training on a tiny random model, node by node in this process: rows, weights, reference, steps."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.progress import silent
from data_prep.rows import write_rows
from data_prep.tokens.vocabulary.config import SpecialTokens, VocabularyConfig
from data_prep.tokens.vocabulary.train import train_tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 96,
}  # fmt: skip
LLAMA: dict[str, Any] = {**SIZES, "model_type": "llama", "num_key_value_heads": 2}
ENCODER: dict[str, Any] = {**SIZES, "shape": "encoder", "positions": "learned"}
BOTH: dict[str, Any] = {**SIZES, "shape": "encoder_decoder", "positions": "t5"}
SPECIAL = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": None, "sentinels": 20}
TEXTS = [f"Item {n}: the {'quick ' * (n % 5)}fox number {n * 7} met {n % 3} dogs." for n in range(48)]
RUN = {"seed": 7, "dtype": "float32", "attention": "sdpa", "trust_remote_code": False}


@dataclass(frozen=True)
class Kind:
    """One way to train: the stage, its settings, and what its rows and its first weights are."""

    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepared_by: str = "dpo"
    reference: bool = False
    architecture: Mapping[str, Any] = field(default_factory=lambda: LLAMA)


FULL = {"adapter": {"kind": "none"}}
LORA = {"adapter": {"kind": "lora", "r": 4}}
KINDS: dict[str, Kind] = {
    "pretrain causal": Kind("pretrain", {**FULL, "objective": "causal", "packed": True}, "pretrain"),
    "pretrain masked": Kind("pretrain", {**FULL, "objective": "masked"}, "pretrain", architecture=ENCODER),
    "pretrain denoising": Kind("pretrain", {**FULL, "objective": "denoising"}, "pretrain", architecture=BOTH),
    "sft full": Kind("sft", FULL, "sft"),
    "sft lora": Kind("sft", LORA, "sft"),
    "sft qlora": Kind("sft", {"adapter": {"kind": "qlora", "r": 4}}, "sft"),
    "dpo": Kind("dpo", LORA, reference=True),
    "kto": Kind("kto", LORA, "kto", reference=True),
    "orpo": Kind("orpo", LORA),
    "simpo": Kind("simpo", LORA),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "pretrain": {"packed": False},
    "sft": {"neftune_alpha": None},
    **{stage: {"dropout": False} for stage in ("dpo", "kto", "orpo", "simpo")},
}


def rows_of(kind: Kind) -> list[dict[str, Any]]:
    """The same few rows each time: documents, chats of two turns, or judged answers of unequal lengths."""
    asked = [(f"t{n}", f"What is {n} plus {n % 7}?", f"It is {n + n % 7}{'.' * (n % 3)}") for n in range(48)]
    if kind.stage == "pretrain":
        return [{"id": f"t{n}", "text": text} for n, text in enumerate(TEXTS)]
    if kind.stage == "sft":
        return [
            {"id": name, "messages": [*_turns(text, answer), *_turns("Sure?", "Yes.")]} for name, text, answer in asked
        ]
    wrong = "Nobody knows, and nobody will."
    if kind.stage == "kto":
        judged = [(name, text, answer, True) for name, text, answer in asked[::2]]
        judged += [(name, text, wrong, False) for name, text, _ in asked[1::2]]
        return [dict(zip(("id", "prompt", "completion", "label"), row, strict=True)) for row in judged]
    return [{"id": name, "prompt": text, "chosen": answer, "rejected": wrong} for name, text, answer in asked]


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def first_weights(folder: Path, architecture: Mapping[str, Any]) -> Path:
    """A model with random weights and a tokenizer trained on the spot, which speaks chatml."""
    from pipeline.stages.model.start import run

    config = VocabularyConfig(vocab_size=320, chat_template="chatml", special=SpecialTokens.model_validate(SPECIAL))
    train_tokenizer(TEXTS, config).save_pretrained(folder / "tokenizer")
    run({"architecture": dict(architecture), "seed": 3}, {"tokenizer": folder / "tokenizer"}, folder, silent)
    return folder / "model"


def prepared(kind: Kind, weights: Path, folder: Path, max_length: int = 96) -> dict[str, Path]:
    """The inputs of the training node: weights, rows, and the reference where there is one."""
    write_rows(folder / "data", "train", iter(rows_of(kind)))
    inputs = {"weights": weights, "dataset": folder / "data"}
    _node(kind.prepared_by, "prepare")(_tokens(kind, max_length), inputs, folder / "rows", silent)
    known = {"weights": weights, "rows": folder / "rows"}
    if not kind.reference:
        return known
    (folder / "reference" / "checkpoints").mkdir(parents=True)
    _node(kind.stage, "reference")(recipe(kind), known, folder / "reference", silent)
    return {**known, "reference": folder / "reference"}


def _tokens(kind: Kind, max_length: int) -> dict[str, Any]:
    from data_prep.tokens.config import PreferenceConfig, TokensConfig

    told = {"stage": kind.stage, "trust_remote_code": False}
    if kind.stage == "pretrain":
        return {**told, "corpus": {"objective": kind.settings["objective"], "max_length": max_length}, "seed": 0}
    if kind.stage == "sft":
        return {**told, **TokensConfig(max_length=max_length).model_dump(), "packing": "none"}
    return {**told, **PreferenceConfig(max_length=max_length).model_dump()}


def recipe(kind: Kind, **changes: object) -> dict[str, Any]:
    """The complete settings of a training node, as the parent would write them."""
    config = importlib.import_module(f"pipeline.stages.{kind.stage}.config")
    asked: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 8, "max_steps": 20, "warmup_steps": 3, **RUN}
    made = getattr(config, f"{kind.stage.title()}TrainConfig")
    settings = asked | DEFAULTS[kind.stage] | dict(kind.settings) | changes
    return made.model_validate(settings).model_dump(mode="json")


def train(kind: Kind, inputs: Mapping[str, Path], out: Path, **changes: object) -> dict[str, float]:
    """The training node; leaves its logs and weights in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    return _node(kind.stage, "train")(recipe(kind, **changes), inputs, out, silent)


def _node(stage: str, name: str) -> Callable[..., dict[str, float]]:
    return importlib.import_module(f"pipeline.stages.{stage}.{name}").run

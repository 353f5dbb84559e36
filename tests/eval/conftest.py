"""A tiny random Llama and a tokenizer trained on the spot: everything the evaluation needs, in a second."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 32
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = ["The river runs past the old mill.", "Ein Satz über Käse.", "Quick brown foxes jump over lazy dogs."] * 4


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    made.chat_template = CHATML
    made.padding_side = "left"
    return made


def tiny_model(seed: int, vocabulary: int) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def model(tokenizer: Any) -> Any:
    return tiny_model(0, len(tokenizer))


@pytest.fixture(scope="session")
def other_model(tokenizer: Any) -> Any:
    return tiny_model(1, len(tokenizer))


@pytest.fixture
def rows_folder(tmp_path: Path) -> Path:
    """A dataset folder with 12 test rows, short enough for the tiny context."""
    words = ["old", "mill", "river", "fox", "dog", "lazy"]
    rows = [
        {
            "id": f"{n:08x}-{n:08x}",
            "source": "tiny",
            "prompt": words[n % 6] * (1 + n % 3),
            "completion": f"the {words[-n % 6]}",
        }
        for n in range(12)
    ]
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder

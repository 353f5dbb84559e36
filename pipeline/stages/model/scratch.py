"""A tiny Llama with random weights and a tokenizer trained on the spot: a whole pipeline in seconds, offline."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.rows import SPLITS, read_rows
from pipeline.stages.model.config import ScratchModel

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build(config: ScratchModel, datasets: Mapping[str, Path], folder: Path) -> None:
    """Train a byte-level BPE tokenizer on the training rows, and save a randomly initialised Llama beside it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(config, _texts(datasets))
    torch.manual_seed(config.seed)
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(llama).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _texts(datasets: Mapping[str, Path]) -> Iterator[str]:
    """All text of the training splits; evaluation rows never shape the tokenizer."""
    for folder in datasets.values():
        for row in read_rows(folder, SPLITS[0]):
            messages = row.get("messages", [])
            yield from (str(message.get("content") or "") for message in messages)
            yield from (row[key] for key in ("text", "prompt", "completion") if key in row)


def _tokenizer(config: ScratchModel, texts: Iterator[str]) -> Any:
    """Byte-level BPE with ChatML; its pad token is its end-of-turn token, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=CHATML,
        model_max_length=config.context,
        clean_up_tokenization_spaces=False,
    )

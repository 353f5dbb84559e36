"""A tiny random BERT classifier with a tokenizer of its own, made without a network."""

from pathlib import Path
from typing import Any

WORDS = ["you", "are", "kind", "rude", "a", "the", "cat", "sat", "on", "mat", "idiot", "fine", "what", "nice", "day"]


def save_tiny_bert(folder: Path, labels: list[str], problem_type: str | None, **config: Any) -> Path:
    """A BertForSequenceClassification with these labels, saved as safetensors beside its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(5)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            id2label=dict(enumerate(labels)),
            label2id={name: index for index, name in enumerate(labels)},
            problem_type=problem_type,
            initializer_range=0.5,
            **(shape | {"max_position_embeddings": 256} | config),
        )
    )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder

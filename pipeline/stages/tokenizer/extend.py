"""Add tokens to a model's tokenizer, and rows to its embeddings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from data_prep.tokens.vocabulary.config import ExtensionConfig
from data_prep.tokens.vocabulary.extend import new_tokens
from pipeline.stages.tokenizer.rows import TrainingTexts
from pipeline.training.models import load_tokenizer, load_weights, merge_adapters


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`model/` with the longer tokenizer; a new token's embedding starts as the mean of its old pieces'."""
    from tokenizers import AddedToken

    trust = bool(config["trust_remote_code"])
    asked = ExtensionConfig.model_validate({name: config[name] for name in ExtensionConfig.model_fields})
    tokenizer = load_tokenizer(inputs["weights"], trust)
    added = new_tokens(tokenizer, TrainingTexts(inputs, track), asked)
    pieces = [tokenizer(token, add_special_tokens=False)["input_ids"] for token in added]
    tokenizer.add_tokens([AddedToken(token, single_word=token.isalpha(), normalized=False) for token in added])
    model = load_weights(inputs["weights"], "float32", "eager", trust)
    model = merge_adapters(model, [path for label, path in inputs.items() if label.startswith("adapter_")])
    known = tokenizer.get_vocab()
    grow_embeddings(model, len(tokenizer), [known[token] for token in added], pieces)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return {"tokens_in_vocabulary": float(len(tokenizer)), "added_tokens": float(len(added))}


def grow_embeddings(model: Any, size: int, ids: list[int], pieces: list[list[int]]) -> None:
    """Make room for `size` tokens; row `ids[i]` becomes the mean of the rows `pieces[i]`, in the head as well.

    Embeddings that have room for more tokens than the tokenizer holds keep their size.
    """
    import torch

    if size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, mean_resizing=False)
    head = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight]
    if head is not None:
        tables += [] if head.weight is tables[0] else [head.weight]
        tables += [] if head.bias is None else [head.bias]
    with torch.no_grad():
        for table in tables:
            for token, old in zip(ids, pieces, strict=True):
                table[token] = table[old].mean(0)

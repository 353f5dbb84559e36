"""A byte-level BPE tokenizer in GGUF's words (ggml's docs/gguf.md)."""

import json
from typing import Any

from gguf import GGUFWriter, TokenType

from data_prep.errors import DataError

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {_WORDS + r"\p{N}{1,3}" + _SIGNS: "llama-bpe", _WORDS + r"\p{N}" + _SIGNS: "qwen2"}
"""The regular expression with which a tokenizer splits text → llama.cpp's name of it."""


def add_tokenizer(writer: GGUFWriter, tokenizer: Any, rows: int, split: str | None) -> None:
    """Tokens with their kinds, merges, special ids, and the chat template.

    `rows` of the embedding: ids without a token are filled up. `split` overrides llama.cpp's name of the splitting.
    DataError for tokenizers of another sort.
    """
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    model = whole["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or not _is_byte_level(whole):
        raise DataError(
            f"export.gguf: the tokenizer is {model['type']} and not byte-level BPE (as in Llama 3, Qwen, SmolLM2); "
            "set gguf=null and export safetensors only"
        )
    tokens, kinds = _tokens(tokenizer, whole, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split or split_name(whole))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    for name, add in (
        ("bos_token_id", writer.add_bos_token_id),
        ("eos_token_id", writer.add_eos_token_id),
        ("unk_token_id", writer.add_unk_token_id),
        ("pad_token_id", writer.add_pad_token_id),
    ):
        if getattr(tokenizer, name) is not None:
            add(getattr(tokenizer, name))
    starts = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(starts) and starts[0] == tokenizer.bos_token_id)
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(tokenizer: Any, whole: dict[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Text and kind of each id, up to the rows of the embedding."""
    texts = {identity: text for text, identity in whole["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, TokenType.NORMAL)
    for added in whole["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if max(texts) >= rows:
        raise DataError(f"export.gguf: the tokenizer has {max(texts) + 1} tokens, but only {rows} have an embedding")
    names = [texts.get(identity, f"[PAD{identity}]") for identity in range(rows)]
    return names, [kinds.get(identity, TokenType.UNUSED) for identity in range(rows)]


def split_name(whole: dict[str, Any]) -> str:
    """llama.cpp's name of how a tokenizer (its tokenizer.json) splits text. DataError when it has none."""
    parts = _parts(whole)
    rules = {part["type"]: part for part in parts}
    if [part["type"] for part in parts] == ["ByteLevel"] and rules["ByteLevel"].get("use_regex", True):
        return "gpt-2"
    if [part["type"] for part in parts] == ["Digits", "ByteLevel"] and rules["Digits"]["individual_digits"]:
        return "smollm"
    split = rules.get("Split", {}).get("pattern", {}).get("Regex", "")
    if split in SPLITS:
        return SPLITS[split]
    raise DataError(
        "export.gguf_tokenizer: llama.cpp's name for how this tokenizer splits text is not known here; set it (its "
        "tokenizer.ggml.pre, such as llama-bpe), or gguf=null"
    )


def _parts(whole: dict[str, Any]) -> list[dict[str, Any]]:
    splitter: dict[str, Any] = whole.get("pre_tokenizer") or {"type": "none"}
    return list(splitter["pretokenizers"]) if splitter["type"] == "Sequence" else [splitter]


def _is_byte_level(whole: dict[str, Any]) -> bool:
    return any(part["type"] == "ByteLevel" for part in _parts(whole))

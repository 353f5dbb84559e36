"""The sizes of a model, read from headers only: no weights, no torch, milliseconds."""

import json
import struct
from pathlib import Path
from typing import IO, Any

from pipeline.stages.model.config import ScratchModel
from pipeline.training.model_sizes import ModelFacts

__all__ = ["ModelFacts", "facts_of", "facts_of_scratch"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def facts_of(source: Path) -> ModelFacts | None:
    """Facts of a model folder (safetensors) or a GGUF file; None when they cannot be read."""
    try:
        return _of_gguf(source) if source.suffix == ".gguf" else _of_folder(source)
    except (OSError, KeyError, ValueError, struct.error):
        return None


def facts_of_scratch(config: ScratchModel) -> ModelFacts:
    """Facts of a Llama that does not exist yet (tied embeddings)."""
    head = config.hidden_size // config.heads
    attention = 2 * config.hidden_size * head * (config.heads + config.key_value_heads)
    block = attention + 3 * config.hidden_size * config.intermediate_size + 2 * config.hidden_size
    parameters = config.vocab_size * config.hidden_size + config.layers * block + config.hidden_size
    return ModelFacts(
        parameters,
        config.layers,
        config.hidden_size,
        config.heads,
        config.vocab_size,
        config.key_value_heads,
        head,
        config.intermediate_size,
        tied=True,
    )


def _of_folder(folder: Path) -> ModelFacts:
    """From `config.json` and the safetensors headers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    parameters = sum(_elements(file) for file in folder.glob("*.safetensors"))
    return ModelFacts(
        parameters,
        int(config.get("num_hidden_layers") or config["n_layer"]),
        int(config.get("hidden_size") or config["n_embd"]),
        int(config.get("num_attention_heads") or config["n_head"]),
        int(config["vocab_size"]),
        config.get("num_key_value_heads"),
        config.get("head_dim"),
        config.get("intermediate_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _elements(file: Path) -> int:
    """Number of weights in a safetensors file, from its JSON header."""
    with file.open("rb") as opened:
        length = struct.unpack("<Q", opened.read(8))[0]
        header = json.loads(opened.read(length))
    total = 0
    for name, tensor in header.items():
        size = 1
        for side in tensor.get("shape", [0]) if name != "__metadata__" else [0]:
            size *= side
        total += size
    return total


def _of_gguf(file: Path) -> ModelFacts:
    """From the GGUF header (format version 2 and 3, ggml's docs/gguf.md).

    The gguf library's reader builds an object for each of the 50,000 tokens, which takes longer than a whole plan may.
    """
    with file.open("rb") as opened:
        magic, _version, tensors, entries = struct.unpack("<4sIQQ", opened.read(24))
        if magic != b"GGUF":
            raise ValueError(f"{file} is no GGUF file")
        values = {}
        for _entry in range(entries):
            key = _string(opened)
            values[key] = _value(opened, *struct.unpack("<I", opened.read(4)))
        parameters = sum(_tensor_elements(opened) for _tensor in range(tensors))
    architecture = values["general.architecture"]
    size = {key.removeprefix(f"{architecture}."): value for key, value in values.items()}
    vocabulary = size.get("vocab_size") or values["tokenizer.ggml.tokens"]
    return ModelFacts(
        parameters,
        size["block_count"],
        size["embedding_length"],
        size["attention.head_count"],
        int(vocabulary),
        size.get("attention.head_count_kv"),
        size.get("attention.key_length"),
        size.get("feed_forward_length"),
    )


def _string(file: IO[bytes]) -> str:
    return file.read(*struct.unpack("<Q", file.read(8))).decode("utf-8", errors="replace")


def _value(file: IO[bytes], kind: int) -> Any:
    """One value of the header; an array is skipped, and its length returned."""
    if kind in _SCALARS:
        code = "<" + _SCALARS[kind]
        return struct.unpack(code, file.read(struct.calcsize(code)))[0]
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        raise ValueError(f"GGUF value type {kind} is unknown")
    item, length = struct.unpack("<IQ", file.read(12))
    if item in _SCALARS:
        file.seek(length * struct.calcsize("<" + _SCALARS[item]), 1)
    else:
        for _index in range(length):
            _value(file, item)
    return length


def _tensor_elements(file: IO[bytes]) -> int:
    """Number of weights of one tensor of the header: name, dimensions, type, offset."""
    _string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    file.read(12)
    total = 1
    for side in shape:
        total *= side
    return total

"""Load a model and its tokenizer for evaluation."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import xxhash

from data_prep.errors import DataError

DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_CONTEXT = 2048
"""Context of a model that states none (lm-evaluation-harness takes the same)."""
_UNSET_LENGTH = 10**9  # tokenizers without a limit carry a huge number
_KEYS: WeakKeyDictionary[Any, tuple[list[tuple[str, int, int]], str]] = WeakKeyDictionary()
"""Model → the versions of its parameters when it was hashed, and the hash."""


def load_model(
    folder: Path,
    adapters: Sequence[Path] = (),
    dtype: str = "float32",
    attention: str | None = "sdpa",
    trust_remote_code: bool = False,
    device: str | None = None,
) -> tuple[Any, Any]:
    """A causal model in evaluation mode with its tokenizer (left padding, a pad token).

    PEFT `adapters` are merged into the weights one after the other; virtual tokens stay beside them. `device` None
    takes the GPU where there is one.
    Raises DataError when a folder, a number format or a file in it is not usable.
    """
    from transformers import AutoModelForCausalLM

    _check(folder, "config.json")
    if dtype not in DTYPES:
        raise DataError(f"dtype {dtype}: unknown; allowed are {', '.join(DTYPES)}")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, ImportError) as error:
        if not trust_remote_code and _brings_code(folder):
            raise DataError(
                f"model {folder}: brings code of its own; look at its .py files, then set trust_remote_code=true"
            ) from error
        raise DataError(f"model {folder}: cannot be loaded ({_first_line(error)})") from error
    for adapter in adapters:
        model = _merged(model, adapter)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(place).eval(), load_tokenizer(folder, trust_remote_code)


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder, padding on the left with its pad token, else its end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"tokenizer {folder}: cannot be loaded ({_first_line(error)})") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise DataError(f"tokenizer {folder}: has neither a pad nor an end token; set one in tokenizer_config.json")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(model: Any, tokenizer: Any) -> int:
    """The most tokens the model reads at once: its config's limit, else the tokenizer's, else 2048."""
    config = model.config.get_text_config()
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(config, name, None)
        if value is not None:
            return int(value)
    length = getattr(tokenizer, "model_max_length", None)
    return int(length) if length is not None and length < _UNSET_LENGTH else DEFAULT_CONTEXT


def number_format(model: Any) -> str:
    """The number format of the weights, such as `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")


def model_key(model: Any, tokenizer: Any) -> str:
    """A hash of all weights, the tokenizer and its chat template: what answers of one model are kept under."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    known = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    told = [weights_key(model), known, str(tokenizer.chat_template), tokenizer.all_special_tokens]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def weights_key(model: Any) -> str:
    """A hash of every byte of every parameter, remembered until one is written to."""
    versions = [(name, each.data_ptr(), each._version) for name, each in model.named_parameters()]
    known = _KEYS.get(model)
    if known is None or known[0] != versions:
        digest = xxhash.xxh3_128()
        for name, parameter in model.named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        known = _KEYS[model] = versions, digest.hexdigest()
    return known[1]


def _merged(model: Any, adapter: Path) -> Any:
    from eval.adapters import apply_adapter

    _check(adapter, "adapter_config.json")
    try:
        return apply_adapter(model, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"adapter {adapter}: does not fit the model ({_first_line(error)})") from error


def _check(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise DataError(f"model folder {folder}: has no {name}; give the folder that save_pretrained wrote")


def _brings_code(folder: Path) -> bool:
    return "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]

"""Bring the model of a run into one form: `model/` with safetensors, configuration and tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.stages.model.config import ScratchModel


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Convert a GGUF file, build a scratch model, or link a folder (local, or downloaded from the Hub) to `model/`."""
    folder = out / "model"
    location = str(config["location"])
    if config["scratch"] is not None:
        from pipeline.stages.model.scratch import build

        build(ScratchModel.model_validate(config["scratch"]), inputs, folder)
    elif location.endswith(".gguf"):
        _convert_gguf(Path(location), folder)
    elif Path(location).is_dir():
        folder.symlink_to(location)
    else:
        folder.symlink_to(_download(location, str(config["revision"])))
    return {"parameters": count_parameters(folder)}


def _convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file to float32 safetensors with its tokenizer, chat template and generation settings."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model.hf_quantizer = None  # otherwise save_pretrained refuses, although the weights are plain floats by now
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _download(repository: str, revision: str) -> str:
    """The Hub's files of a causal LM at one commit, in the Hub cache. Weights are safetensors only."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]
    folder = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    if not any(Path(folder).glob("*.safetensors")):
        raise DataError(f"model {repository}@{revision}: no .safetensors weights; choose a revision that has them")
    return folder


def count_parameters(folder: Path) -> float:
    """Number of weights, from the safetensors headers (tied weights counted once, as they are stored)."""
    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                total += size
    return float(total)

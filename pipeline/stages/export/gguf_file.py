"""A model folder as one GGUF file (format version 3), written tensor by tensor through the gguf library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.stages.export.gguf_tokens import add_tokenizer

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
"""transformers' model_type → GGUF's architecture."""
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}
"""general.file_type (ggml's enum of file types)."""


def write_gguf(folder: Path, tokenizer: Any, file: Path, form: str, name: str, split: str | None, track: Track) -> None:
    """Weights, sizes, tokenizer and chat template of a folder with safetensors. Matrices in `form`, vectors in F32.

    DataError when the family has no place in GGUF here, or its tokenizer none.
    """
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(folder)
    if config.model_type not in ARCHITECTURES:
        raise DataError(
            f"export.gguf: model_type {config.model_type} is none of {', '.join(ARCHITECTURES)}; set gguf=null"
        )
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[form])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_sizes(writer, config)
    add_tokenizer(writer, tokenizer, config.vocab_size, split)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for tensor_name, array in _tensors(folder, names, config):
        kind = _kind(array.shape, form)
        shape = gguf.quants.quant_shape_to_byte_shape(array.shape, kind) if kind == Kind.Q8_0 else array.shape
        size = int(np.prod(shape)) * {Kind.F32: 4, Kind.F16: 2}.get(kind, 1)
        width = {Kind.F32: np.float32, Kind.F16: np.float16}.get(kind, np.uint8)
        writer.add_tensor_info(tensor_name, shape, np.dtype(width), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, array in track(_tensors(folder, names, config), "tensors"):
        writer.write_tensor_data(gguf.quants.quantize(array, _kind(array.shape, form)))
    writer.close()


def _add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    """What llama.cpp builds the model from."""
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    kind = config.rope_parameters.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    elif kind not in ("default", "llama3"):
        raise DataError(f"export.gguf: rotary positions of type {kind} are not written yet; set gguf=null")


def _tensors(folder: Path, names: gguf.TensorNameMap, config: Any) -> Iterator[tuple[str, np.ndarray]]:
    """GGUF's name and the float32 weights, one after the other; tied output weights are left out, as on disk."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in sorted(tensors.keys()):
                place = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if place is None:
                    raise DataError(f"export.gguf: the weights {key} have no place in GGUF; set gguf=null")
                yield place, _turned(key, tensors.get_tensor(key).float().numpy(), config)
    if config.rope_parameters.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _rope_factors(config)


def _turned(key: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """llama.cpp's rotary positions turn neighbours (2i, 2i + 1) in Llama, transformers' the halves (i, i + d/2)."""
    if config.model_type not in ("llama", "mistral") or ".q_proj." not in key and ".k_proj." not in key:
        return weight
    heads = config.num_attention_heads if ".q_proj." in key else config.num_key_value_heads
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape).copy()


def _rope_factors(config: Any) -> np.ndarray:
    """By what Llama 3.1's long-context scaling divides each rotary frequency: transformers' own, as a tensor (d/2,)."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    plain = 1.0 / theta ** (np.arange(0, head, 2, dtype=np.float64) / head)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    return (plain / scaled.double().numpy()).astype(np.float32)


def _kind(shape: tuple[int, ...], form: str) -> Kind:
    """Vectors stay in F32; rows that no block of 32 divides stay in F16."""
    if len(shape) < 2:
        return Kind.F32
    if form == "Q8_0" and shape[-1] % 32:
        return Kind.F16
    return Kind[form]

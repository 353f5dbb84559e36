"""The model that a training stage starts from, and the adapter that it trains."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.training.adapter_config import FreezeAdapter, QloraAdapter, leaves_model
from pipeline.training.config import TrainConfig
from pipeline.training.parallel import divided_weights, refuse_undivided_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = Literal["decoder", "encoder", "encoder_decoder"]


def load_start(config: TrainConfig, inputs: Mapping[str, Path]) -> "PreTrainedModel":
    """The language model of `inputs["weights"]`, with the adapters of earlier stages merged in, ready for training.

    A full fine-tuning keeps float32 weights and computes in `dtype` (autocast): AdamW's small updates would be lost in
    bfloat16. Frozen weights are loaded in `dtype`, for QLoRA in 4 or 8 bit.
    """
    from pipeline.training.adapters import freeze

    adapter, earlier = config.adapter, [path for label, path in inputs.items() if label.startswith("adapter_")]
    if isinstance(adapter, QloraAdapter) and not earlier:
        return _quantised(None, config, inputs)
    dtype = "float32" if leaves_model(adapter) else config.dtype
    parts = divided_weights(config)
    if parts:
        refuse_undivided_heads(_config(inputs["weights"]))
    model = load_weights(inputs["weights"], dtype, config.attention, config.trust_remote_code, **parts)
    model = merge_adapters(model, earlier)
    if isinstance(adapter, QloraAdapter):
        return _quantised(model, config, inputs)
    if isinstance(adapter, FreezeAdapter):
        freeze(adapter, model)
    return model


def load_weights(folder: Path, dtype: str, attention: str, trust_remote_code: bool, **more: Any) -> "PreTrainedModel":
    """The language model of a folder, by its shape; `more` reaches from_pretrained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    know_own_models(folder)
    autos: dict[Shape, Any] = {
        "decoder": AutoModelForCausalLM,
        "encoder": AutoModelForMaskedLM,
        "encoder_decoder": AutoModelForSeq2SeqLM,
    }
    return autos[shape_of_model(folder)].from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        **more,
    )


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The tokenizer of a model's folder."""
    from transformers import AutoTokenizer

    know_own_models(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def know_own_models(folder: Path) -> None:
    """Register the from-scratch family with transformers when the folder holds one, so that no code of it is run."""
    if is_own_model(folder):
        import pipeline.models  # noqa: F401


def is_own_model(folder: Path) -> bool:
    """Whether the folder holds a model of the from-scratch family."""
    return _config(folder).get("model_type") == "provetune"


def shape_of_model(folder: Path) -> Shape:
    """Decoder, encoder, or both: told by its configuration."""
    config = _config(folder)
    if config.get("is_encoder_decoder"):
        return "encoder_decoder"
    named = config.get("architectures") or [""]
    return "encoder" if named[0].endswith("ForMaskedLM") else "decoder"


def context_of_model(folder: Path) -> int | None:
    """The longest sequence the model was made for, in tokens; None when it states none."""
    config = _config(folder)
    return config.get("max_position_embeddings") or config.get("n_positions")


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def merge_adapters(model: "PreTrainedModel", adapters: Sequence[Path]) -> "PreTrainedModel":
    """Add the updates of earlier adapters to the weights, oldest first."""
    from eval.adapters import apply_adapter

    for adapter in adapters:
        model = apply_adapter(model, adapter)
    return model


def _quantised(model: "PreTrainedModel | None", config: TrainConfig, inputs: Mapping[str, Path]) -> "PreTrainedModel":
    """The model with linear layers of 4 or 8 bit, read from its folder, or from a temporary one after a merge."""
    import torch
    from transformers import BitsAndBytesConfig

    adapter, dtype = config.adapter, getattr(torch, config.dtype)
    assert isinstance(adapter, QloraAdapter)
    if adapter.quantization == "int8":
        form = BitsAndBytesConfig(load_in_8bit=True)
    else:
        form = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=adapter.quantization,
            bnb_4bit_use_double_quant=adapter.double_quantization,
            bnb_4bit_compute_dtype=dtype,
        )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":  # shards are cut from one number format
        form.bnb_4bit_quant_storage = dtype
    more: dict[str, Any] = {"quantization_config": form}
    if torch.cuda.is_available():  # each rank on its own GPU, before Accelerate has chosen one
        more["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    if model is None:
        return _keep_format(
            load_weights(inputs["weights"], config.dtype, config.attention, config.trust_remote_code, **more)
        )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return _keep_format(
            load_weights(Path(folder), config.dtype, config.attention, config.trust_remote_code, **more)
        )


def _keep_format(model: "PreTrainedModel") -> "PreTrainedModel":
    """On CPU, a validation must not turn weights into bitsandbytes' bfloat16 kernel format: training went on in it."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # pyright: ignore
    return model

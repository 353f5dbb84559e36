"""The model that a training stage starts from, and the adapter that it trains."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import StageFailed
from pipeline.training.config import LoraAdapter, TrainConfig

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

Shape = Literal["decoder", "encoder", "encoder_decoder"]


def load_start(config: TrainConfig, inputs: Mapping[str, Path]) -> "PreTrainedModel":
    """The language model of `inputs["weights"]`, with the adapters of earlier stages merged in, ready for training.

    A full fine-tuning keeps float32 weights and computes in `dtype` (autocast): AdamW's small updates would be lost in
    bfloat16. Frozen weights are loaded in `dtype`.
    """
    dtype = "float32" if config.adapter.kind == "none" else config.dtype
    model = load_weights(inputs["weights"], dtype, config.attention, config.trust_remote_code)
    return merge_adapters(model, [path for label, path in inputs.items() if label.startswith("adapter_")])


def load_weights(folder: Path, dtype: str, attention: str, trust_remote_code: bool) -> "PreTrainedModel":
    """The language model of a folder, by its shape."""
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
    )


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The tokenizer of a model's folder."""
    from transformers import AutoTokenizer

    know_own_models(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def know_own_models(folder: Path) -> None:
    """Register the from-scratch family with transformers when the folder holds one, so that no code of it is run."""
    if _config(folder).get("model_type") == "provetune":
        import pipeline.models  # noqa: F401


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
    from peft import PeftModel

    for adapter in adapters:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()  # pyright: ignore
    return model


def lora_config(adapter: LoraAdapter, model: "PreTrainedModel") -> "LoraConfig":
    """PEFT's configuration; names of target modules that match nothing are refused with those that exist."""
    import torch
    from peft import LoraConfig

    linear = sorted(
        {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    )
    target: str | list[str]
    if adapter.target == "attention":
        target = [name for name in linear if name in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn")]
    else:
        target = adapter.target
    absent = [name for name in target if name not in linear] if isinstance(target, list) else []
    if absent or not target:
        raise StageFailed(
            f"adapter.target: no linear layer named {absent or adapter.target}; the model has {', '.join(linear)}"
        )
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType] (any number works)
        lora_dropout=adapter.dropout,
        target_modules=target,
        task_type="CAUSAL_LM",
    )

"""The model that a training stage starts from, and the adapter that it trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StageFailed
from pipeline.training.config import LoraAdapter, TrainConfig

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def load_start(config: TrainConfig, inputs: Mapping[str, Path]) -> "PreTrainedModel":
    """The causal LM of `inputs["weights"]`, with the adapters of earlier stages merged in, ready for training.

    A full fine-tuning keeps float32 weights and computes in `dtype` (autocast): AdamW's small updates would be lost in
    bfloat16. Frozen weights are loaded in `dtype`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, "float32" if config.adapter.kind == "none" else config.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        inputs["weights"],
        dtype=dtype,
        attn_implementation=config.attention,
        use_safetensors=True,
        trust_remote_code=config.trust_remote_code,
    )
    return merge_adapters(model, [path for label, path in inputs.items() if label.startswith("adapter_")])


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

"""Put a trained adapter on a model, as it was trained: on the same quantised weights, with embeddings of its own.

The one place where adapters meet weights: evaluation, later training stages, merging and export all come here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

QUANTISATION = "quantization.json"
"""Beside an adapter that was trained on quantised weights: number format, scales, and which layers."""


def apply_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter merged into its weights; virtual tokens (prefix, prompt) stay beside it.

    Weights that were quantised in training are quantised and dequantised first, so that the merged model computes what
    the adapter was trained on. Tied embeddings that the adapter tells apart are untied. Raises OSError, ValueError or
    RuntimeError when the adapter does not fit.
    """
    adapted = put_adapter(model, folder)
    if adapted.active_peft_config.is_prompt_learning:
        adapted.register_forward_hook(_only_real_tokens)
        return adapted
    return adapted.merge_and_unload()  # pyright: ignore[reportCallIssue] (the attribute of a PEFT model's inner one)


def put_adapter(model: Any, folder: Path) -> Any:
    """PEFT's model: the adapter beside the weights that it was trained on, not merged. Errors as `apply_adapter`."""
    from peft import PeftModel

    record = folder / QUANTISATION
    if record.exists():
        requantise(model, json.loads(record.read_text(encoding="utf-8")))
    _untie_where_touched(model, folder)
    return PeftModel.from_pretrained(model, str(folder))


def requantise(model: Any, record: dict[str, Any]) -> None:
    """Replace the named layers' weights by what bitsandbytes makes of them and back: `quantization.json`'s content."""
    modules = dict(model.named_modules())
    absent = [name for name in record["modules"] if name not in modules]
    if absent:
        raise ValueError(f"{QUANTISATION} names layers that the model lacks: {', '.join(absent[:3])}")
    for name in record["modules"]:
        weight = modules[name].weight
        before = weight.data.to(getattr(torch, record["dtype"]))
        rounded = _rounded(before, record["quantization"], record["double_quantization"])
        weight.data = rounded.to(weight.dtype)


def _rounded(weight: Tensor, form: str, double: bool) -> Tensor:
    """A matrix (out, in) after bitsandbytes' quantisation and its reverse."""
    from bitsandbytes import functional

    if form == "int8":
        codes, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
        return codes.float() * scales.float()[:, None] / 127
    codes, state = functional.quantize_4bit(weight.contiguous(), quant_type=form, compress_statistics=double)
    return functional.dequantize_4bit(codes, state)


def untie(model: Any) -> bool:
    """Give the output layer weights of its own; whether it shared them with the embeddings before."""
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None or output.weight is not embeddings.weight:
        return False
    output.weight = nn.Parameter(output.weight.detach().clone(), requires_grad=output.weight.requires_grad)
    for config in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    return True


def _untie_where_touched(model: Any, folder: Path) -> None:
    """An update of the output layer alone, merged into shared weights, would change the embeddings too."""
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    if file.exists():
        with safe_open(file, framework="pt") as tensors:
            keys = [f"{key.removeprefix('base_model.model.')}." for key in tensors.keys()]  # noqa: SIM118
        if any(key.startswith(f"{name}.") for key in keys for name in names):
            untie(model)


def _only_real_tokens(model: Any, _inputs: Any, output: Any) -> Any:
    """Prompt tuning returns logits of the virtual tokens too; scoring knows only the tokens that it gave."""
    config = model.active_peft_config
    if config.peft_type != "PREFIX_TUNING" and getattr(output, "logits", None) is not None:
        output.logits = output.logits[:, config.num_virtual_tokens :]
    return output

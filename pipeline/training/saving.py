"""The trained part as safetensors, with the tokenizer."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.adapters import QUANTISATION
from pipeline.artifacts import write_json
from pipeline.training.adapter_config import PissaAdapter, QloraAdapter
from pipeline.training.config import TrainConfig, leaves_model
from pipeline.training.parallel import is_in_parts, whole_weights
from pipeline.training.step_log import STEPS, VALIDATION

FIRST = "first_adapter"
"""Under `checkpoints/`: a PiSSA adapter before its first step, which the update is counted from."""


def save_trained(trainer: Any, recipe: TrainConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """`adapter/`, or the whole `model/`, and the logs; rank 0 writes."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    state, writes = gathered_weights(trainer), trainer.is_world_process_zero()
    if not writes and (leaves_model(recipe.adapter) or not is_in_parts(trainer)):  # PEFT gathers an adapter's parts
        return
    folder = out / ("model" if leaves_model(recipe.adapter) else "adapter")
    more: dict[str, Any] = {} if state is None else {"state_dict": state}
    if isinstance(recipe.adapter, PissaAdapter):
        more["path_initial_model_for_weight_conversion"] = str(out / "checkpoints" / FIRST)
    model.save_pretrained(folder, is_main_process=writes, **more)
    if not writes:
        return
    trainer.processing_class.save_pretrained(folder)
    if not leaves_model(recipe.adapter):
        _make_repeatable(folder, inputs["weights"])
    if isinstance(recipe.adapter, QloraAdapter):
        write_json(folder / QUANTISATION, _quantisation(recipe.adapter, recipe.dtype, model))
    for name in (STEPS, VALIDATION):
        shutil.copyfile(out / "checkpoints" / name, out / name)


def gathered_weights(trainer: Any) -> dict[str, Any] | None:
    """Weights that lie in parts on the ranks (FSDP, ZeRO-3, divided matrices), made whole, on rank 0 at least.

    None where each rank has them all, or where PEFT makes them whole.
    """
    if is_in_parts(trainer.model):
        return whole_weights(trainer.model)
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return None
    return trainer.accelerator.get_state_dict(trainer.model_wrapped)


def save_first_adapter(trainer: Any, recipe: TrainConfig, checkpoints: Path) -> None:
    """Keep where PiSSA starts: it takes the singular vectors out of the weights, and PEFT puts them back at the end."""
    if isinstance(recipe.adapter, PissaAdapter) and trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(checkpoints / FIRST)


def _quantisation(adapter: QloraAdapter, dtype: str, model: Any) -> dict[str, Any]:
    """What `eval.adapters.requantise` needs to make the weights that were trained on."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    names = [
        name.removesuffix(".base_layer")
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, Linear4bit | Linear8bitLt)
    ]
    return {
        "quantization": adapter.quantization,
        "double_quantization": adapter.double_quantization,
        "dtype": dtype,
        "modules": sorted(names),
    }


def _make_repeatable(folder: Path, weights: Path) -> None:
    """PEFT writes this machine's path of the base model, and sets in any order; the same run gives the same bytes."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"model/{weights.parent.name}"
    if config.get("tokenizer_name_or_path"):
        config["tokenizer_name_or_path"] = config["base_model_name_or_path"]
    for sets in ("target_modules", "feedforward_modules"):
        if isinstance(config.get(sets), list):
            config[sets].sort()
    (folder / "README.md").unlink(missing_ok=True)  # a template of a card that says nothing
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

"""From an adapter's settings to PEFT's, with the layers that a model really has."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StageFailed
from pipeline.training.adapter_config import (
    DoraAdapter,
    FreezeAdapter,
    Ia3Adapter,
    LowRank,
    PissaAdapter,
    PrefixAdapter,
    PromptAdapter,
    RsloraAdapter,
    Target,
    VeraAdapter,
)
from pipeline.training.config import TrainConfig
from pipeline.training.parallel import groups

if TYPE_CHECKING:
    from peft import PeftConfig

ATTENTION = ("attn", "attention")
FEED_FORWARD = ("mlp", "feed_forward", "ffn", "moe", "expert")
"""Parts of the names that models give to their blocks."""


def adapter_config(recipe: TrainConfig, model: Any, weights: Path) -> "PeftConfig | None":
    """PEFT's configuration; None where the model's own weights are trained (`freeze` has frozen the others by then).

    `weights` is the model's folder: its tokenizer reads the start of a prompt adapter. StageFailed when a target
    matches nothing.
    """
    from peft import IA3Config, VeraConfig

    if groups().tensor > 1:
        from pipeline.training.parts import make_adapters_whole

        make_adapters_whole()
    adapter, task = recipe.adapter, "CAUSAL_LM"
    match adapter:
        case LowRank():
            return _low_rank(adapter, model)
        case VeraAdapter():
            return VeraConfig(
                task_type=task,
                r=adapter.r,
                d_initial=adapter.initial_scale,
                vera_dropout=adapter.dropout,
                target_modules=target_modules(adapter.target, model),
                projection_prng_key=recipe.seed,
            )
        case Ia3Adapter():
            targets = target_modules(adapter.target, model, whole_list=True)
            inside = [name for name in targets if name in _names(_in_blocks(model, FEED_FORWARD))]
            return IA3Config(task_type=task, target_modules=targets, feedforward_modules=inside)
        case PrefixAdapter() | PromptAdapter():
            return _virtual_tokens(adapter, weights)
        case _:
            return None


def _virtual_tokens(adapter: PrefixAdapter | PromptAdapter, weights: Path) -> "PeftConfig":
    from peft import PrefixTuningConfig, PromptTuningConfig, PromptTuningInit

    if isinstance(adapter, PrefixAdapter):
        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=adapter.tokens,
            prefix_projection=adapter.projection_size is not None,
            encoder_hidden_size=adapter.projection_size,  # pyright: ignore[reportArgumentType] (None: the model's)
        )
    return PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.tokens,
        prompt_tuning_init=PromptTuningInit.TEXT if adapter.text else PromptTuningInit.RANDOM,
        prompt_tuning_init_text=adapter.text,
        tokenizer_name_or_path=str(weights) if adapter.text else None,
    )


def with_adapter(recipe: TrainConfig, model: Any, weights: Path) -> Any:
    """The model with its fresh adapter, for a trainer that adds none itself."""
    config = adapter_config(recipe, model, weights)
    if config is None:
        return model
    from peft import get_peft_model

    adapted = get_peft_model(model, config)
    if recipe.activation_checkpointing:  # otherwise nothing before the first adapter asks for a gradient
        adapted.enable_input_require_grads()  # pyright: ignore[reportCallIssue]
    return adapted


def _low_rank(adapter: LowRank, model: Any) -> "PeftConfig":
    from peft import LoraConfig

    for setting, patterns in (("rank_pattern", adapter.rank_pattern), ("alpha_pattern", adapter.alpha_pattern)):
        _refuse_unmatched(f"adapter.{setting}", patterns, model)
    start: Any = True
    if isinstance(adapter, PissaAdapter):
        start = "pissa" if adapter.iterations is None else f"pissa_niter_{adapter.iterations}"
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType] (any number works)
        lora_dropout=adapter.dropout,
        target_modules=target_modules(adapter.target, model),
        rank_pattern=dict(adapter.rank_pattern),
        alpha_pattern=dict(adapter.alpha_pattern),  # pyright: ignore[reportArgumentType]
        use_dora=isinstance(adapter, DoraAdapter),
        use_rslora=isinstance(adapter, RsloraAdapter),
        init_lora_weights=start,
        task_type="CAUSAL_LM",
    )


def target_modules(target: Target, model: Any, whole_list: bool = False) -> Any:
    """`all-linear` as PEFT knows it, else names of linear layers; `whole_list` spells `all-linear` out.

    StageFailed names what the model has when a name or a group matches nothing.
    """
    if target == "all-linear" and not whole_list:
        return target
    linear = linear_layers(model)
    blocks = {"attention": ATTENTION, "mlp": FEED_FORWARD}
    absent: list[str] | str = target
    if isinstance(target, str):
        output = {name for name, module in model.named_modules() if module is model.get_output_embeddings()}
        wanted = [name for name in _in_blocks(model, blocks.get(target, ("",))) if name not in output]
        others = _names(name for name in linear if name not in wanted)
        chosen = _names(wanted) if not set(_names(wanted)) & set(others) else wanted  # c_proj is in both of GPT-2's
    else:
        found = {name: [layer for layer in linear if f".{layer}".endswith(f".{name}")] for name in target}
        absent = [name for name, layers in found.items() if not layers]
        chosen = [] if absent else list(target)
    if not chosen:
        raise StageFailed(f"adapter.target: no linear layer named {absent}; the model has {', '.join(_names(linear))}")
    return chosen


def linear_layers(model: Any) -> list[str]:
    """Full names of the linear layers, quantised ones and GPT-2's transposed ones too."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]


def _in_blocks(model: Any, parts: tuple[str, ...]) -> list[str]:
    """The linear layers inside blocks of a sort."""
    return [name for name in linear_layers(model) if any(part in name.rpartition(".")[0] for part in parts)]


def _names(layers: Iterable[str]) -> list[str]:
    """The last parts of full names, each once."""
    return sorted({name.rsplit(".", 1)[-1] for name in layers})


def _refuse_unmatched(key: str, patterns: Iterable[str], model: Any) -> None:
    """A pattern that matches no layer would change nothing; PEFT matches the end of a name in the same way."""
    import re

    layers = linear_layers(model)
    for pattern in patterns:
        if not any(re.match(rf"(.*\.)?({pattern})$", layer) for layer in layers):
            raise StageFailed(f"{key}: '{pattern}' matches no linear layer; the model has {', '.join(_names(layers))}")


def freeze(adapter: FreezeAdapter, model: Any) -> None:
    """Leave only the last blocks and the named modules trainable. StageFailed when a name matches nothing."""
    import torch

    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    blocks = max(lists, key=lambda each: sum(weight.numel() for weight in each.parameters()), default=[])
    if adapter.last_layers > len(blocks):
        raise StageFailed(f"adapter.last_layers: {adapter.last_layers}, but the model has {len(blocks)} blocks")
    modules = dict(model.named_modules())
    chosen = list(blocks[len(blocks) - adapter.last_layers :])
    for wanted in adapter.modules:
        found = [module for name, module in modules.items() if f".{name}".endswith(f".{wanted}")]
        if not found:
            known = sorted({name.rsplit(".", 1)[-1] for name in modules if name and not name[-1].isdigit()})
            raise StageFailed(f"adapter.modules: no module named {wanted}; the model has {', '.join(known)}")
        chosen += found
    model.requires_grad_(False)
    for module in chosen:
        module.requires_grad_(True)

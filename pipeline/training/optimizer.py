"""The optimizers of a recipe where transformers' own choice does not reach: decay groups, LoRA+, Muon."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.training.adapter_config import LoraPlusAdapter
from pipeline.training.config import TrainConfig

if TYPE_CHECKING:
    from transformers import Trainer


def follow_recipe(trainer: "Trainer", recipe: TrainConfig) -> None:
    """Let the trainer make the recipe's optimizer when it makes one, which may be after it has sharded the model."""
    named: Any = trainer.get_decay_parameter_names

    def decaying(model: nn.Module) -> list[str]:
        return [name for name in named(model) if not any(part in name for part in recipe.no_weight_decay)]

    trainer.get_decay_parameter_names = decaying
    make = {"muon": muon, "lora_plus": lora_plus}.get(
        recipe.optimizer if recipe.optimizer == "muon" else recipe.adapter.kind
    )
    if make is None:
        return

    def create_optimizer(model: nn.Module | None = None) -> Optimizer:
        if trainer.optimizer is None:
            trainer.optimizer = make(trainer, recipe, trainer.model if model is None else model)
        return trainer.optimizer  # pyright: ignore[reportReturnType]

    trainer.create_optimizer = create_optimizer


def lora_plus(trainer: Any, recipe: TrainConfig, model: Any) -> Optimizer:
    """PEFT's LoRA+ groups for the recipe's optimizer."""
    from peft.optimizers import create_loraplus_optimizer

    assert isinstance(recipe.adapter, LoraPlusAdapter)
    chosen, settings = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    settings = {name: value for name, value in settings.items() if name not in ("lr", "weight_decay")}
    return create_loraplus_optimizer(
        model,
        chosen,
        lr=recipe.learning_rate,
        loraplus_lr_ratio=recipe.adapter.learning_rate_ratio,
        loraplus_weight_decay=recipe.weight_decay,
        **settings,
    )


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for embeddings, output layer and vectors.

    One optimizer for the trainer, with one list of groups: torch's Muon takes matrices alone. Updates are scaled to
    AdamW's size (Liu et al. 2025, arXiv 2502.16982), so that both share a learning rate.
    """

    def __init__(self, matrices: list[dict[str, Any]], others: list[dict[str, Any]], lr: float):
        matrices = [group for group in matrices if group["params"]]
        others = [group for group in others if group["params"]]
        self._parts: list[Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr))
        super().__init__([{"params": [p for group in [*matrices, *others] for p in group["params"]]}], {"lr": lr})
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """One step of both."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of both."""
        for part in self._parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Both, side by side, in the form of one optimizer."""
        parts = [part.state_dict() for part in self._parts]
        return {"state": {f"{n}": part["state"] for n, part in enumerate(parts)}, "parts": parts, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def forget(self) -> None:
        """Empty states, as before the first step."""
        for part in self._parts:
            part.state.clear()


def muon(trainer: Any, recipe: TrainConfig, model: Any) -> Optimizer:
    """Matrices of the blocks by Muon, all else by AdamW; weight decay as the recipe says."""
    ends = {id(weight) for module in _ends(model) for weight in module.parameters()}
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    decaying = set(trainer.get_decay_parameter_names(model))
    inside = [(name, weight) for name, weight in trained if weight.ndim == 2 and id(weight) not in ends]
    known = {name for name, _ in inside}
    others = [(name, weight) for name, weight in trained if name not in known]
    return Muon(_groups(inside, decaying, recipe), _groups(others, decaying, recipe), recipe.learning_rate)


def _ends(model: Any) -> list[nn.Module]:
    """Embeddings and output layer."""
    inner = getattr(model, "get_base_model", lambda: model)()
    return [module for module in (inner.get_input_embeddings(), inner.get_output_embeddings()) if module is not None]


def _groups(named: Iterable[tuple[str, nn.Parameter]], decaying: set[str], recipe: TrainConfig) -> list[dict[str, Any]]:
    named = list(named)
    return [
        {"params": [weight for name, weight in named if name in decaying], "weight_decay": recipe.weight_decay},
        {"params": [weight for name, weight in named if name not in decaying], "weight_decay": 0.0},
    ]

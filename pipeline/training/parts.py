"""Checkpoints and weights of a model that was divided as it was loaded (`pipeline.training.parallel`).

transformers does not resume such a training. Weights are gathered and saved whole, the optimizer's states by
torch.distributed.checkpoint: each rank its own part, with the names of the weights.
"""

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import ParallelismConfig

from pipeline.errors import StageFailed
from pipeline.training.config import TrainConfig, leaves_model
from pipeline.training.parallel import divided_weights, groups, is_in_parts

STATES, SCHEDULE = "optimizer", "scheduler.pt"
"""In a checkpoint: the folder of the optimizer's states, and transformers' file of the schedule."""


class LoadedInParts(ParallelismConfig):
    """Accelerate refuses groups on CPUs; here it only deals out rows, as the model is divided when it comes."""

    def _validate_accelerator(self, accelerator: Any) -> None:
        if self.total_size != accelerator.num_processes:
            joined = accelerator.num_processes
            raise StageFailed(f"{self.total_size} ranks were started, but {joined} joined; check the launch settings")


def keep_checkpoints(trainer: Any, recipe: TrainConfig) -> None:
    """Let the trainer write and read checkpoints of a divided model; any other model stays as it is."""
    if not is_in_parts(trainer.model):
        return

    def save(folder: str) -> None:
        from transformers.distributed.checkpoint import save_optimizer_distributed

        save_optimizer_distributed(trainer.model, _bare(trainer.optimizer), os.path.join(folder, STATES))
        if trainer.args.should_save:
            torch.save(trainer.lr_scheduler.state_dict(), os.path.join(folder, SCHEDULE))

    def load(folder: str | None) -> None:
        from transformers.distributed.checkpoint import load_optimizer_distributed

        if folder is not None:
            load_optimizer_distributed(trainer.model, _bare(trainer.optimizer), os.path.join(folder, STATES))
            trainer.lr_scheduler.load_state_dict(torch.load(os.path.join(folder, SCHEDULE), weights_only=True))

    def load_weights(folder: str, model: Any = None) -> None:
        _load_trained(trainer.model if model is None else model, recipe, Path(folder))

    _average_divided_adapters(trainer)
    trainer._save_optimizer_and_scheduler = save
    trainer._load_optimizer_and_scheduler = load
    trainer._load_from_checkpoint = load_weights


def _average_divided_adapters(trainer: Any) -> None:
    """Let groups agree on the gradients of adapters that are divided inside each group.

    FSDP2 averages what it shards, and transformers the adapters that are whole on every rank, but not these.
    """
    from torch import distributed
    from torch.distributed.tensor import DTensor

    model: Any = trainer.model
    meshes = getattr(model, "get_base_model", lambda: model)()._mesh_manager
    others = [meshes.get_mesh(name).get_group() for name, size in _over_groups() if size > 1]

    def average(weight: torch.Tensor) -> None:
        if trainer.accelerator.sync_gradients:
            gradient: Any = weight.grad
            for group in others:
                distributed.all_reduce(gradient.to_local(), op=distributed.ReduceOp.AVG, group=group)

    for weight in model.parameters():
        if weight.requires_grad and isinstance(weight, DTensor) and weight.device_mesh.mesh_dim_names == ("tp",):
            weight.register_post_accumulate_grad_hook(average)


def _over_groups() -> list[tuple[str, int]]:
    """The dimensions of transformers' mesh over which groups lie, with their sizes."""
    shared = groups()
    return [("fsdp", shared.batches // shared.replicas), ("dp_replicate", shared.replicas)]


def _bare(optimizer: Any) -> Any:
    """Without Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _load_trained(model: Any, recipe: TrainConfig, folder: Path) -> None:
    """The weights of a checkpoint into a model of the same division."""
    if leaves_model(recipe.adapter):
        from pipeline.training.models import load_weights

        more = divided_weights(recipe)
        saved = load_weights(folder, "float32", recipe.attention, recipe.trust_remote_code, **more)
        named = dict(saved.named_parameters())
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(named[name])
        return
    from safetensors.torch import load_file

    adapter = load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(_part_of(weight, adapter[name.replace(".default", "")]))


def _part_of(weight: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Of a whole tensor, what this rank holds of a weight."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    whole = whole.to(weight.device, weight.dtype)
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def make_adapters_whole() -> None:
    """Let PEFT make LoRA for the whole of a divided layer, and divide it as the layer is.

    PEFT 0.21 makes it for this rank's part: it would begin with other numbers than on one rank, and where the inputs
    are divided its forward pass fails, as the layer then takes its part for the whole. For the life of this process.
    """
    from peft.tuners.lora.layer import LoraLayer
    from torch import nn

    found = LoraLayer._get_in_out_features

    def whole(self: Any, module: nn.Module) -> Any:
        return (module.in_features, module.out_features) if isinstance(module, nn.Linear) else found(self, module)

    LoraLayer._get_in_out_features = whole

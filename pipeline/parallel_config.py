"""Ranks that share a batch: the part of `launch` about tensor and context parallelism. Imports only pydantic."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.nodes_config import NodesConfig

TENSOR, CONTEXT, REPLICAS = "PROVETUNE_TENSOR_PARALLEL", "PROVETUNE_CONTEXT_PARALLEL", "PROVETUNE_REPLICAS"
GROUPS = (TENSOR, CONTEXT, REPLICAS)
"""Environment variables that tell a rank how it shares: the launch is in no stage's configuration."""
DIVIDED = ("fsdp2", "cpu_ranks")
"""The launches that divide matrices: transformers shards them as it loads, and shards over the other ranks by FSDP2."""


class ParallelConfig(NodesConfig):
    """Who shares a batch with whom. Ranks of a group have neighbouring numbers, so that a group lies on one node."""

    tensor_parallel: int = Field(default=1, ge=1)
    """So many ranks divide each matrix by heads and widths and share a batch (Shoeybi et al. 2019, arXiv 1909.08053).
    With `fsdp2` and `cpu_ranks`; over the groups the weights lie in shards."""
    context_parallel: int = Field(default=1, ge=1)
    """With `fsdp2`: so many ranks divide each sequence and pass keys and values on (ring attention, Liu et al. 2023,
    arXiv 2310.01889)."""

    @property
    def group(self) -> int:
        """Ranks that share a batch."""
        return self.tensor_parallel * self.context_parallel


def clash_of_groups(launch: ParallelConfig, kind: str, processes: int) -> str | None:
    """Why processes cannot be grouped as asked, with what can be done; None when they can."""
    tensor, context = launch.tensor_parallel, launch.context_parallel
    if tensor > 1 and kind not in DIVIDED:
        return f"tensor_parallel {tensor} is for launch={' or '.join(DIVIDED)}, not {kind}"
    if context > 1 and kind != "fsdp2":
        why = "; on a CPU torch has no context parallel attention" if kind == "cpu_ranks" else ""
        return f"context_parallel {context} is for launch=fsdp2 on GPUs, not {kind}{why}"
    if tensor > 1 and context > 1:
        return f"tensor_parallel {tensor} and context_parallel {context} do not go together; set one of them to 1"
    return None if launch.group == 1 else _undivided(launch, processes)


def _undivided(launch: ParallelConfig, processes: int) -> str | None:
    name = "tensor_parallel" if launch.tensor_parallel > 1 else "context_parallel"
    copies = launch.group * launch.replicas
    with_replicas = f" in each of {launch.replicas} replicas" if launch.replicas > 1 else ""
    if processes % copies:
        wanted = f"{name} groups of {launch.group}{with_replicas}"
        return f"{processes} processes cannot be cut into {wanted}; make it a multiple of {copies}"
    own = processes // launch.nodes
    if own % launch.group:
        return f"{name} {launch.group}: a group must lie on one node, of {own} processes; choose a divisor of {own}"
    if launch.replicas > 1 and processes == copies:
        most = max(1, processes // 2 // launch.group)
        return f"{name} {launch.group} leaves nothing to shard{with_replicas}; set replicas={most} or less"
    return None


def environment_of(launch: ParallelConfig) -> dict[str, str]:
    """What ranks are told of their groups."""
    sizes = (launch.tensor_parallel, launch.context_parallel, launch.replicas)
    return {name: str(size) for name, size in zip(GROUPS, sizes, strict=True)}


def undivided_heads(name: str, count: int, shared: int) -> str:
    """One line for `count` heads that `shared` ranks cannot take in equal parts."""
    allowed = [str(size) for size in range(2, count + 1) if count % size == 0]
    fits = f"a divisor of {count} ({', '.join(allowed)})" if allowed else "1"
    return f"launch.tensor_parallel {shared}: the model has {count} {name}, which it must divide; choose {fits}"


def refuse_groups_of_file(path: str, sizes: Mapping[str, Any]) -> None:
    """ConfigError where a user's Accelerate file lets ranks share a batch: nothing here would know of it."""
    for name, setting in (("tp_size", "tensor_parallel"), ("cp_size", "context_parallel"), ("sp_size", None)):
        size = sizes.get(f"parallelism_config_{name}") or 1
        if int(size) > 1:
            instead = f"use launch=fsdp2 with launch.{setting}={size}" if setting else "set it to 1"
            raise ConfigError(f"accelerate_config {path}: {name} {size}: its ranks would share a batch; {instead}")

"""Work of one of two CPU ranks that divide sequences (test_context_parallel.py).

torch has no context parallel attention for CPUs, and Accelerate no FSDP2. In their places stand an attention that
gathers keys and values, and DDP; rows, padding, losses and validation are ours, TRL's and transformers' as on GPUs.

    python -m torch.distributed.run --nproc-per-node 2 -m tests.engine.ring_ranks WORK.json
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import ParallelismConfig
from torch import Tensor
from torch.distributed.tensor import experimental
from torch.nn import functional

from pipeline.training import arguments
from tests.engine.divided_ranks import do

attend = functional.scaled_dot_product_attention


class Gathered(torch.autograd.Function):
    """A tensor (batch, heads, part of the tokens, width) with those of all ranks behind each other."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size(), dim=2)[dist.get_rank()]


def places(tokens: int, rank: int) -> Tensor:
    """The places of a rank's tokens: of the 2·n parts of a row, one from its beginning and one from its end."""
    parts = torch.arange(tokens).chunk(2 * dist.get_world_size())
    return torch.cat([parts[rank], parts[-1 - rank]])


def ring_attention(query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
    """Causal attention of this rank's tokens to those of all ranks."""
    assert more.pop("is_causal") and more.pop("attn_mask") is None, "Accelerate takes masks away"
    tokens = query.shape[2] * dist.get_world_size()
    all_places = torch.cat([places(tokens, rank) for rank in range(dist.get_world_size())])
    mask = places(tokens, dist.get_rank())[:, None] >= all_places[None]
    return attend(query, Gathered.apply(key), Gathered.apply(value), attn_mask=mask, **more)


@contextmanager
def context_parallel(mesh: Any, *, buffers: Any, buffer_seq_dims: Any, no_restore_buffers: Any) -> Iterator[None]:
    """As torch's: cuts the buffers in place for its length, and replaces the attention."""
    before = [buffer.clone() for buffer in buffers]
    for buffer, whole, dim in zip(buffers, before, buffer_seq_dims, strict=True):
        assert whole.shape[dim] % (2 * mesh.size()) == 0, "rows must be padded"
        part = whole.index_select(dim, places(whole.shape[dim], dist.get_rank()))
        buffer.resize_(part.shape).copy_(part)
    functional.scaled_dot_product_attention = ring_attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attend
        for buffer, whole in zip(buffers, before, strict=True):
            if not any(buffer is kept for kept in no_restore_buffers or ()):
                buffer.resize_(whole.shape).copy_(whole)


if __name__ == "__main__":
    experimental.context_parallel = context_parallel
    ParallelismConfig._validate_accelerator = lambda self, accelerator: None
    arguments._refuse_gpu_only = lambda *_: None
    for each in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        do(each)

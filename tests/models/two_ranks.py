"""Work of one of two ranks (test_two_ranks.py): each kind of model divided among them, against the whole one."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, DistributedConfig
from transformers.utils import logging

from pipeline.models import ProvetuneForCausalLM
from tests.models.tiny import KINDS, decoder, ids

MIXED = {"num_experts": 4, "experts_per_token": 2, "shared_experts": 1}
MODELS = KINDS | {
    "ungated": {"feed_forward": "gelu"},
    "ungated-experts": {"feed_forward": "gelu", "num_experts": 4, "experts_per_token": 2, "expert_layers": [1]},
    "latent-experts": KINDS["latent"] | MIXED,
    "tied": {"tie_word_embeddings": True},
}


def whole(value: Tensor) -> Tensor:
    """Of all ranks together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value  # pyright: ignore


def step(model: ProvetuneForCausalLM) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and gradients by name."""
    out = model(input_ids=ids(2, 12), labels=ids(2, 12))
    out.loss.backward()
    return whole(out.logits), {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def difference(model: ProvetuneForCausalLM, logits: Tensor, gradients: dict[str, Tensor]) -> dict[str, float]:
    """Largest differences of logits, and of gradients relative to the largest value of each."""
    own, found = step(model)
    assert found.keys() == gradients.keys()
    worst = max(((found[n] - g).abs().max() / g.abs().max().clamp(min=1e-6)).item() for n, g in gradients.items())
    return {"logits": (own - logits).abs().max().item(), "gradients": worst}


def compare(kind: str, folder: Path) -> dict[str, dict[str, float]]:
    """Tensor parallelism by the model's own plan, and FSDP2 by blocks."""
    model = decoder(**MODELS[kind])
    if dist.get_rank() == 0:
        model.save_pretrained(folder)
    dist.barrier()
    logits, gradients = step(model)
    text = model.generate(ids(2, 12), max_new_tokens=6, do_sample=False)
    plan = DistributedConfig(tp_plan="auto")
    tensor = AutoModelForCausalLM.from_pretrained(folder, distributed_config=plan).eval()
    found = {"tensor": difference(tensor, logits, gradients)}
    found["tensor"]["split"] = sum(type(p).__name__ == "DTensor" for p in tensor.parameters())
    assert torch.equal(tensor.generate(ids(2, 12), max_new_tokens=6, do_sample=False), text), kind
    sharded = decoder(**MODELS[kind])
    for block in sharded.model.layers:
        fully_shard(block)
    found["fsdp2"] = difference(fully_shard(sharded), logits, gradients)
    return found


def main() -> None:
    """Every kind; the first rank writes what it found."""
    logging.disable_progress_bar()
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    found = {kind: compare(kind, folder / kind) for kind in MODELS}
    if dist.get_rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

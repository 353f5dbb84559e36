"""A model with all its adapters in its weights, proven equal to what was trained before anybody uses it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import StageFailed
from pipeline.training.models import load_tokenizer, load_weights, merge_adapters

MOST = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""The largest accepted difference of logits between adapter and merged model, relative to their size, by the number
format of the merged weights (rounding a weight to bfloat16 moves it by up to 0.4 %)."""
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "def add(a, b):\n    return a + b\n",
    "In 1969, 2 people walked on the moon; 1 + 1 = 2.",
)
NEW_TOKENS = 16


def save_merged(inputs: Mapping[str, Path], folder: Path, dtype: str, trust_remote_code: bool) -> dict[str, float]:
    """Merge in float32, save in `dtype` with tokenizer and chat template, load again and compare.

    Metrics: `logit_difference` (norm of the difference over the norm) between adapter and saved model, and
    `greedy_agreement`, the share of greedily written tokens that are equal. StageFailed above `MOST`.
    """
    from eval.adapters import put_adapter

    weights, adapters = inputs["weights"], [path for label, path in inputs.items() if label.startswith("adapter_")]
    tokenizer = load_tokenizer(weights, trust_remote_code)
    model: Any = load_weights(weights, "float32", "sdpa", trust_remote_code)
    model = merge_adapters(model, adapters[:-1])
    adapted = put_adapter(model, adapters[-1]) if adapters else model
    before, told = _answers(adapted.eval(), tokenizer)
    merged = adapted.merge_and_unload() if adapters else model
    merged.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model, adapted, merged
    after, tells = _answers(load_weights(folder, dtype, "sdpa", trust_remote_code).eval(), tokenizer)
    difference = max(float((a - b).norm() / a.norm()) for a, b in zip(before, after, strict=True))
    if difference > MOST[dtype]:
        raise StageFailed(
            f"the merged model's logits differ from the adapter's by {difference:.2g} of their size, more than "
            f"{MOST[dtype]:.0e} for {dtype}; merge with dtype=float32"
        )
    pairs = [pair for a, b in zip(told, tells, strict=True) for pair in zip(a, b, strict=False)]
    agreement = sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0
    return {"logit_difference": difference, "greedy_agreement": agreement}


def _answers(model: Any, tokenizer: Any) -> tuple[list[Tensor], list[list[int]]]:
    """For each probe the logits (T, V) of its tokens, and what the model writes after it."""
    logits, written = [], []
    with torch.no_grad():
        for probe in PROBES:
            ids = torch.tensor([tokenizer(probe)["input_ids"]], device=model.device)
            logits.append(model(input_ids=ids).logits[0].float())
            end = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )
            written.append(end[0, ids.shape[1] :].tolist())
    return logits, written

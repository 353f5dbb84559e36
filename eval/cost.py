"""What a measurement cost: the model's size, and how long an answer or a scored row took."""

import resource
import sys
from collections.abc import Mapping
from typing import Any


def with_cost(model: Any, numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that `predict` and `predict_task` return, with the size of the model and the latency.

    Added are `parameters`, `weight_bytes`, and `<measure>_seconds_per_row` wherever rows were computed, not read: the
    mean over rows that share batches, so a lone request takes longer.
    """
    size = {
        "parameters": float(sum(each.numel() for each in model.parameters())),
        "weight_bytes": float(sum(each.numel() * each.element_size() for each in model.parameters())),
    }
    latency = {
        f"{measure}_seconds_per_row": numbers[f"{measure}_seconds"] / numbers[f"{measure}_rows"]
        for measure in (name.removesuffix("_tokens_per_second") for name in numbers if "_tokens_per_second" in name)
    }
    return {**numbers, **latency, **size}


def peak_memory() -> float:
    """The most memory that this process has held so far, in bytes, and on the GPU where it used one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    torch = sys.modules.get("torch")
    return float(peak + (torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0))

"""How fast a trained model writes, and what its cache costs: the two prices that an attention is chosen by."""

import time
from typing import Any

ROWS, PROMPT, NEW, ROUNDS = 4, 64, 64, 3
BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}


def decoding_costs(model: Any, dtype: str) -> dict[str, float]:
    """Costs of greedy writing with a cache, of a from-scratch decoder; {} for any other model.

    Returns:
        `kv_bytes_per_token`: bytes that the cache of one sequence grows by per token, while no window is full;
        `decode_tokens_per_second`: new tokens of all rows, the best of some rounds (others only measure the machine).
    """
    import torch

    from pipeline.models import ProvetuneConfig

    config = model.config
    if not isinstance(config, ProvetuneConfig) or config.shape != "decoder":
        return {}
    model.eval()
    prompt = torch.arange(ROWS * PROMPT, device=model.device).view(ROWS, PROMPT) % config.vocab_size
    return {
        "kv_bytes_per_token": config.kv_bytes_per_token(bytes_per_value=BYTES_PER_VALUE[dtype]),
        "decode_tokens_per_second": ROWS * NEW / min(_seconds(model, prompt) for _ in range(ROUNDS)),
    }


def _seconds(model: Any, prompt: Any) -> float:
    """Of NEW tokens after a prompt; no token ends a row early."""
    started = time.perf_counter()
    model.generate(prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)
    return time.perf_counter() - started

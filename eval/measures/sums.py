"""Perplexities and bits per byte as functions of sums over rows: numbers or arrays, no model."""

import math
import re
from typing import Any

import numpy as np


def text_sizes(text: str) -> dict[str, int]:
    """Words, counted as lm-evaluation-harness does (pieces between white space), and bytes of UTF-8."""
    return {"words": len(re.split(r"\s+", text)), "bytes": len(text.encode())}


def bits_per_byte(nll: Any, size_in_bytes: Any) -> Any:
    """nll / (bytes · ln 2); sums as numbers or arrays."""
    return nll / (size_in_bytes * math.log(2))


def byte_perplexity(nll: Any, size_in_bytes: Any) -> Any:
    """exp(nll / bytes); sums as numbers or arrays."""
    return np.exp(nll / size_in_bytes)


def word_perplexity(nll: Any, words: Any) -> Any:
    """exp(nll / words); sums as numbers or arrays. Infinite for long text without white space."""
    return np.exp(nll / words)


def token_perplexity(nll: Any, tokens: Any) -> Any:
    """exp(nll / tokens); sums as numbers or arrays. Never compares two tokenizers."""
    return np.exp(nll / tokens)

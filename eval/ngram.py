"""A yardstick for bits per byte: interpolated n-grams of bytes, counted on the training text.

Witten–Bell interpolation (1991, method C; Chen & Goodman 1998): after a context h seen c(h) times with t(h) different
next bytes, p(b|h) = (c(hb) + t(h) · p(b|h')) / (c(h) + t(h)), where h' is h without its first byte and the last p is
uniform over 256 bytes. It is a probability of every text, so its bits per byte compare with a model's.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row, completion_text, prompt_text, read_rows, shape_of, write_whole
from eval.config import NgramConfig
from eval.measures.sums import bits_per_byte, text_sizes
from eval.samples import choose

BASELINE = "baseline.jsonl"


class NgramModel:
    """Counts of byte n-grams up to `order`, and the probabilities that follow."""

    def __init__(self, order: int):
        self.order = order
        self.next: list[defaultdict[bytes, dict[int, int]]] = [defaultdict(dict) for _ in range(order)]

    def count(self, text: bytes) -> None:
        """Add a text: each byte after each of its contexts of 0 to order - 1 bytes."""
        for at, byte in enumerate(text):
            for length in range(min(at, self.order - 1) + 1):
                counts = self.next[length][text[at - length : at]]
                counts[byte] = counts.get(byte, 0) + 1

    def nll(self, text: bytes, context: bytes = b"") -> float:
        """Negative log-likelihood in nats of a text after a context."""
        whole, start = context[-(self.order - 1) :] + text if self.order > 1 else text, 0
        start = len(whole) - len(text)
        return -math.fsum(math.log(self._probability(whole, at)) for at in range(start, len(whole)))

    def _probability(self, text: bytes, at: int) -> float:
        value = 1 / 256
        for length in range(min(at, self.order - 1) + 1):
            counts = self.next[length].get(text[at - length : at])
            if counts is None:  # a longer context was not seen either
                break
            kinds = len(counts)
            value = (counts.get(text[at], 0) + kinds * value) / (sum(counts.values()) + kinds)
        return value


def score_with_ngrams(
    folder: Path, config: NgramConfig, max_rows: int | None, track: Track = silent
) -> list[dict[str, Any]]:
    """Rows {"id", "nll", "words", "bytes"} of the test rows that a model is scored on (`eval.predict`): whole texts, or
    answers after their prompts as plain text. DataError without training rows."""
    training, model, left = read_rows(folder, "train"), NgramModel(config.order), config.max_bytes
    if not training:
        raise DataError(f"{folder}: no training rows to count n-grams of; set baseline: null")
    for text in track(_training_bytes(choose(training, None), left), "n-grams"):
        model.count(text)
    rows = []
    for row in choose(read_rows(folder, "test"), max_rows):
        prompt, text = _parts(row)
        nll = model.nll(text.encode(), (prompt + "\n").encode() if prompt else b"")
        rows.append({"id": row["id"], "nll": nll, **text_sizes(text)})
    return rows


def write_baseline(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows of a finished baseline."""
    write_whole(folder / BASELINE, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


def baseline_value(folder: Path, ids: set[str]) -> float | None:
    """Bits per byte of the n-gram model on the rows of these ids; None where there are none."""
    lines = (folder / BASELINE).read_bytes().split(b"\n")
    rows = [row for line in lines if line and (row := json.loads(line))["id"] in ids]
    size = sum(row["bytes"] for row in rows)
    return float(bits_per_byte(math.fsum(row["nll"] for row in rows), size)) if size else None


def _training_bytes(rows: Iterable[Row], left: int) -> Iterable[bytes]:
    for row in rows:
        text = "\n".join(part for part in _parts(row) if part).encode()[:left]
        left -= len(text)
        if not text:
            return
        yield text


def _parts(row: Row) -> tuple[str, str]:
    """What stands before, and what is scored."""
    if shape_of(row) == "text":
        return "", row["text"]
    if shape_of(row) == "chat":
        answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
        return prompt_text(row), str(answers[-1] if answers else "")
    return prompt_text(row), completion_text(row)

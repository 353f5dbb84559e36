"""A linear classifier over hashed n-grams: two files, `weights.safetensors` and `card.json`, and no pickle.

The weights are whole numbers, so that their sums, and with them every score, are exact: they depend neither on which
texts are scored together nor on the machine.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.classifiers.hashing import SCHEME, Grams, Piece, grams_of
from data_prep.errors import DataError
from data_prep.rows import write_whole

FORMAT = "provetune-linear/1"
CARD = "card.json"
WEIGHTS = "weights.safetensors"
LONGEST_SEGMENT = 65_536
"""Longer texts are hashed in segments of so many characters, cut at a space, so that memory stays flat."""
BATCH_CHARACTERS = 65_536


@dataclass(frozen=True)
class LinearModel:
    """Scores texts: the probability of `labels[1]`.

    With word n-grams w (count n) and character n-grams c (count m) of a text, the logit is
    scale · (Σ weights[w] / √n + Σ weights[c] / √m) + bias.
    """

    weights: NDArray[np.int16]
    scale: float
    bias: float
    labels: tuple[str, str]
    window: int
    """Characters of the passages that are scored apart: the logit is the mean of the whole text's and of its worst
    passage's. 0: a text counts as a whole."""
    card: dict[str, Any]

    @property
    def bits(self) -> int:
        """The table holds 2**bits weights."""
        return len(self.weights).bit_length() - 1

    def scores(self, texts: Sequence[str]) -> list[float | None]:
        """Per text the probability of the positive label, rounded to 6 decimals; None where there is no n-gram."""
        table = self.weights.astype(np.int32)
        whole = np.zeros((len(texts), 4), np.int64)
        worst: list[float | None] = [None] * len(texts)
        for batch in _batches(texts):
            grams = grams_of([segment for _, segment in batch], self.bits)
            sums, passages = _sums(grams, table, self.window)
            for (index, _), own, parts in zip(batch, sums, passages, strict=True):
                whole[index] += own
                logits = [logit for part in parts if (logit := self._logit(part)) is not None]
                worst[index] = max(logits + [known] if (known := worst[index]) is not None else logits, default=None)
        return [self._score(sums, highest) for sums, highest in zip(whole.tolist(), worst, strict=True)]

    def _score(self, sums: Sequence[int], worst: float | None) -> float | None:
        logit = self._logit(sums)
        if logit is None:
            return None
        return round(1 / (1 + math.exp(-(logit if worst is None else (logit + worst) / 2))), 6)

    def _logit(self, sums: Sequence[int]) -> float | None:
        words, word_count, characters, character_count = sums
        if not word_count + character_count:
            return None
        parts = words / math.sqrt(word_count or 1) + characters / math.sqrt(character_count or 1)
        return max(-60.0, min(60.0, self.scale * parts + self.bias))

    def save(self, folder: Path) -> None:
        """Write both files; the card gets what loading verifies. The same model gives the same bytes."""
        from safetensors.numpy import save

        content = save({"weights": self.weights})
        write_whole(folder / WEIGHTS, content)
        card = self.card | {
            "format": FORMAT,
            "features": {"scheme": SCHEME, "bits": self.bits, "window": self.window},
            "labels": list(self.labels),
            "scale": self.scale,
            "bias": self.bias,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
        }
        write_whole(folder / CARD, (json.dumps(card, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode())


def load_linear(folder: Path) -> LinearModel:
    """A saved classifier; DataError when a file is missing, damaged or of another kind."""
    card = read_card(folder)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be read ({error.strerror}); copy the whole folder") from error
    if hashlib.sha256(content).hexdigest() != card.get("weights_sha256"):
        raise DataError(f"{folder / WEIGHTS}: not the weights that {CARD} describes; copy both again, or train again")
    try:
        return _assembled(content, card)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{folder / CARD}: damaged ({reason}); copy it again, or train again") from error


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a saved classifier; DataError when it is missing, or of another format."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise DataError(f"{path}: cannot be read ({reason}); give a folder that train-quality wrote") from error
    found = card.get("format") if isinstance(card, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: of format {found}, needed is {FORMAT}; train the classifier with this version")
    return card


def logit_features(grams: Grams, bits: int) -> Any:
    """A scipy CSR matrix, texts × 2**bits, whose product with the weights is the logit before scale and bias."""
    from scipy import sparse

    blocks = sparse.csr_matrix((len(grams.starts), 2**bits))
    for pieces in (grams.words, grams.characters):
        if not pieces:
            continue
        positions = np.concatenate([begins for begins, _ in pieces])
        owner = np.searchsorted(grams.ends, positions, side="right")
        counts = np.bincount(owner, minlength=len(grams.starts))
        values = 1 / np.sqrt(counts[owner])
        buckets = np.concatenate([found for _, found in pieces])
        blocks = blocks + sparse.csr_matrix((values, (owner, buckets)), shape=blocks.shape)
    return blocks.tocsr()


def _assembled(content: bytes, card: dict[str, Any]) -> LinearModel:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(content)["weights"]
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    features = card["features"]
    if features["scheme"] != SCHEME or weights.dtype != np.int16 or weights.shape != (2 ** int(features["bits"]),):
        raise ValueError(f"features {features} do not fit {weights.dtype} weights of shape {weights.shape}")
    negative, positive = card["labels"]
    scale, bias, window = float(card["scale"]), float(card["bias"]), int(features["window"])
    if not (math.isfinite(scale) and math.isfinite(bias) and window >= 0):
        raise ValueError(f"scale {scale}, bias {bias}, window {window}")
    return LinearModel(weights, scale, bias, (str(negative), str(positive)), window, card)


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Segments with the number of their text; what a segment adds does not depend on its batch."""
    batch: list[tuple[int, str]] = []
    size = 0
    for index, text in enumerate(texts):
        for segment in segments(text):
            batch.append((index, segment))
            size += len(segment)
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def segments(text: str) -> Iterator[str]:
    """A text in pieces of at most LONGEST_SEGMENT characters, cut after a space where there is one; at least one."""
    start = 0
    while len(text) - start > LONGEST_SEGMENT:
        end = start + LONGEST_SEGMENT
        end = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end)) + 1 or end
        yield text[start:end]
        start = end
    yield text[start:]


def _sums(grams: Grams, table: NDArray[np.int32], window: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Sum and count of word n-grams, sum and count of character n-grams: per text, and per text and passage."""
    total = int(grams.ends[-1]) + 1
    running = [*_running(grams.words, table, total), *_running(grams.characters, table, total)]

    def between(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[list[int]]:
        return np.stack([values[ends] - values[starts] for values in running], axis=1).tolist()

    borders = _passages(grams, window)
    spans = np.array([span for text in borders for span in text], np.int64).reshape(-1, 2)
    flat = iter(between(spans[:, 0], spans[:, 1]))
    return between(grams.starts, grams.ends), [[next(flat) for _ in text] for text in borders]


def _passages(grams: Grams, window: int) -> list[list[tuple[int, int]]]:
    """Overlapping passages of `window` characters; the last has at least half of them, if the text does."""
    if not window:
        return [[] for _ in grams.starts]
    half = window // 2
    found: list[list[tuple[int, int]]] = []
    for start, end in zip(grams.starts.tolist(), grams.ends.tolist(), strict=True):
        begins = range(start, max(end - half, start + 1), half)
        found.append([(begin, min(begin + window, end)) for begin in begins])
    return found


def _running(pieces: list[Piece], table: NDArray[np.int32], total: int) -> Iterator[NDArray[np.int64]]:
    """Sums of the weights, and numbers of the n-grams, that begin before each position."""
    weights, counts = np.zeros(total + 1, np.int64), np.zeros(total + 1, np.int64)
    for begins, buckets in pieces:
        weights[begins + 1] += table[buckets]
        counts[begins + 1] += 1
    yield np.cumsum(weights)
    yield np.cumsum(counts)

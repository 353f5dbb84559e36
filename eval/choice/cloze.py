"""The last word of a passage: LAMBADA (Paperno et al. 2016), as lm-evaluation-harness scores it.

A row: {"id", "context_sha256", "word", "log_likelihood", "greedy", "tokens", "bytes", "cut"}.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.choice.config import ClozeConfig
from eval.predictions import key_of
from eval.samples import choose

Rows = list[dict[str, Any]]


class ClozeItem(NamedTuple):
    """A passage without its last word, and the word."""

    id: str
    context: str
    word: str


def cloze_items_of(rows: Iterable[Mapping[str, Any]]) -> list[ClozeItem]:
    """Rows of `context` and `continuation`, or of `text` whose last word (after its last space) is asked for."""
    items = []
    for number, row in enumerate(rows):
        name = str(row.get("id", number))
        if "text" in row:
            context, _, word = row["text"].rpartition(" ")
        elif {"context", "continuation"} <= row.keys():
            context, word = row["context"], row["continuation"].strip()
        else:
            raise DataError(f"item {name}: columns {', '.join(row)}; allowed are text, or context and continuation")
        if not context or not word:
            raise DataError(f"item {name}: has no {'word' if context else 'context'}; correct or drop the row")
        items.append(ClozeItem(name, context, word))
    if not items:
        raise DataError("cloze items: none; give at least one row")
    return items


def score_cloze(
    model: Any,
    tokenizer: Any,
    items: Sequence[ClozeItem],
    config: ClozeConfig,
    track: Track = silent,
    partial: Path | None = None,
) -> Rows:
    """One row for each chosen item, in the order of a hash of their ids."""
    from eval.choice.encode import encode_all
    from eval.choice.score import score_encoded
    from eval.loading import model_key

    by_id = {item.id: item for item in items}
    chosen = [by_id[row["id"]] for row in choose([{"id": name} for name in by_id], config.max_rows)]
    asked = [(item.id, item.context, [config.delimiter + item.word]) for item in chosen]
    key = key_of(model_key(model, tokenizer), asked, config.model_dump(mode="json", exclude={"batch_size"}))
    scored = score_encoded(model, encode_all(model, tokenizer, asked, config), config, key, track, partial)
    return [_row(item, scored[item.id]) for item in chosen]


def cloze_columns(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 3): the word is the likeliest, its negative log-likelihood, one. Sums of these are all the metrics need."""
    return np.array([[float(row["greedy"]), -row["log_likelihood"], 1.0] for row in rows])


def cloze_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """accuracy, and perplexity: exp of the mean negative log-likelihood of a word (not of a token)."""
    correct, nll, count = cloze_columns(rows).sum(axis=0)
    return {"accuracy": float(correct / count), "perplexity": math.exp(nll / count)}


def _row(item: ClozeItem, scored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": item.id,
        "context_sha256": hashlib.sha256(item.context.encode()).hexdigest(),
        "word": item.word,
        "log_likelihood": scored["log_likelihoods"][0],
        "greedy": scored["greedy"][0],
        "tokens": scored["tokens"][0],
        "bytes": len(item.word.encode()),
        "cut": scored["cut"][0],
    }

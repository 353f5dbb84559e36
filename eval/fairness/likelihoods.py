"""Log-likelihoods of the sentences of pairs: the entry that needs the model.

Rows: {"id", "kind", "bias_type", "term", "sentences", "context_sha256", "log_likelihoods", "tokens", "cut"}. The score
of a sentence under a causal model is the log-likelihood of all its tokens, after its context or else after one BOS
token: the pseudo-log-likelihood of masked models has no place here.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.choice.encode import encode_all
from eval.choice.score import Rows, score_encoded
from eval.fairness.config import PairConfig
from eval.fairness.pairs import Pair
from eval.loading import model_key
from eval.predictions import key_of
from eval.samples import choose


def score_pairs(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    config: PairConfig,
    track: Track = silent,
    partial: Path | None = None,
) -> Rows:
    """One row for each chosen pair, in the order of a hash of their ids."""
    if not pairs:
        raise DataError("pairs: none; give at least one pair")
    by_id = {pair.id: pair for pair in pairs}
    if len(by_id) < len(pairs):
        raise DataError("pairs: an id is there twice; give every row its own")
    chosen = [by_id[row["id"]] for row in choose([{"id": name} for name in by_id], config.max_rows)]
    asked = [(pair.id, pair.context, _continuations(pair)) for pair in chosen]
    key = key_of(
        model_key(model, tokenizer), asked, config.model_dump(mode="json", exclude={"batch_size", "normalise"})
    )
    scored = score_encoded(model, encode_all(model, tokenizer, asked, config), config, key, track, partial)
    return [_row(pair, scored[pair.id]) for pair in chosen]


def _continuations(pair: Pair) -> list[str]:
    return [f" {sentence}" if pair.context else sentence for sentence in pair.sentences]


def _row(pair: Pair, scored: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": pair.id,
        "kind": pair.kind,
        "bias_type": pair.bias_type,
        "term": pair.term,
        "sentences": list(pair.sentences),
        "context_sha256": hashlib.sha256(pair.context.encode()).hexdigest(),
        **{name: scored[name] for name in ("log_likelihoods", "tokens", "cut")},
    }

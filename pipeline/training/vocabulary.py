"""Whether a tokenizer and a model belong together."""

import json
from pathlib import Path
from typing import Any

from data_prep.errors import DataError


def refuse_small_embeddings(model: Path, tokenizer: Any) -> None:
    """DataError when a token of the tokenizer has no row in the embedding: some later row would end in an index error.

    More rows than tokens are common (padded to a multiple of 64) and harmless.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    rows = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    token, highest = max(vocabulary.items(), key=lambda item: item[1])
    if rows is not None and highest >= rows:
        raise DataError(
            f"model: the tokenizer has {len(vocabulary)} tokens (ids up to {highest}, {token!r}), but only {rows} have "
            "an embedding; use the tokenizer that belongs to the model, or extend it with a stage of kind tokenizer"
        )

"""Words that are worth a token of their own: those whose pieces fill the most places of the training text."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from data_prep.errors import DataError
from data_prep.tokens.vocabulary.config import ExtensionConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r"[^\W\d_]+")


def new_tokens(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str], config: ExtensionConfig) -> list[str]:
    """The named tokens, then the learned ones, the most useful first. DataError for one that is a token already."""
    known = tokenizer.get_vocab()
    for token in config.tokens:
        if token in known:
            raise DataError(f"add.tokens: '{token}' is a token already; remove it")
    if not config.learn:
        return list(config.tokens)
    counts = Counter(word for text in texts for word in _WORD.findall(text))
    found = [word for word, count in counts.items() if count >= config.min_frequency and word not in config.tokens]
    after = 1 + len(tokenizer(" ", add_special_tokens=False)["input_ids"])  # the space stays a token of its own
    pieces = [len(ids) for ids in tokenizer([f" {word}" for word in found], add_special_tokens=False)["input_ids"]]
    saved = {word: counts[word] * (size - after) for word, size in zip(found, pieces, strict=True) if size > after}
    best = sorted(saved, key=lambda word: (-saved[word], word))
    if len(best) < config.learn:
        raise DataError(
            f"add.learn: only {len(best)} words occur {config.min_frequency} times and would save tokens, "
            f"not {config.learn}; lower learn or min_frequency"
        )
    return [*config.tokens, *best[: config.learn]]

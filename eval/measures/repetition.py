"""How varied generated text is: distinct and repeated n-grams, and lengths, over the words of any script."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data_prep.errors import DataError

# Scripts that write words without spaces: each character, with its marks, counts as a word.
UNSPACED_SCRIPTS = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
WORD_POLICY = (
    f"words: runs of letters, digits and marks of any script, lower case; {', '.join(UNSPACED_SCRIPTS)}: each character"
)


@lru_cache(maxsize=1)
def _word_pattern() -> Any:
    import regex

    unspaced = "".join(rf"\p{{{name}}}" for name in UNSPACED_SCRIPTS)
    return regex.compile(
        rf"[{unspaced}]\p{{M}}*|(?:(?![{unspaced}])[\p{{L}}\p{{N}}\p{{M}}])+(?:['’](?=\p{{L}})\p{{L}}+)*"
    )


def words(text: str) -> list[str]:
    """The words of a text in lower case; an apostrophe between letters belongs to its word (`WORD_POLICY`)."""
    import unicodedata

    return _word_pattern().findall(unicodedata.normalize("NFC", text).lower())


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams by all n-grams of all texts (Li et al. 2016); NaN where no text has n words.

    It falls with the amount of text: compare models on the same prompts and look at the lengths beside it.
    """
    grams = [gram for text in texts for gram in _ngrams(words(text), n)]
    return len({*grams}) / len(grams) if grams else float("nan")


def repetition_rate(text: str, n: int = 4) -> float:
    """The share of a text's n-grams that stood in it before (1 - seq-rep-n's unique share, Welleck et al. 2020).

    0 where the text has fewer than n + 1 words: nothing can repeat.
    """
    grams = _ngrams(words(text), n)
    return 1 - len({*grams}) / len(grams) if grams else 0.0


def repetition_columns(texts: Sequence[str], n: int = 4) -> np.ndarray:
    """(N, 6): repeated n-grams, n-grams, words, characters, whether the text is empty, one. Their sums give `variety`
    but for distinct-n, which is no sum over rows."""
    if not texts:
        raise DataError("texts: none; measure at least one")
    rows = []
    for text in texts:
        found = words(text)
        grams = _ngrams(found, n)
        rows.append([len(grams) - len({*grams}), len(grams), len(found), len(text), not text.strip(), 1.0])
    return np.array(rows, dtype=np.float64)


def variety(texts: Sequence[str], n: int = 4) -> Mapping[str, float]:
    """distinct_1, distinct_2, `repetition` (repeated n-grams by n-grams, over all texts), mean `words` and
    `characters`, and the share of `empty` texts."""
    repeated, grams, count, characters, empty, total = repetition_columns(texts, n).sum(axis=0)
    return {
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "repetition": float(repeated / grams) if grams else 0.0,
        "words": float(count / total),
        "characters": float(characters / total),
        "empty": float(empty / total),
    }


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise DataError(f"n-grams: n is {n}; allowed are 1 and more")
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))

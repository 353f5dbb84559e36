"""Slow references for near-duplicates, and texts with planted ones."""

import random
import unicodedata

import numpy as np

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.groups import NearDuplicates
from data_prep.curation.near_dedup.pairs import NearPairs, find_pairs, search_order
from data_prep.curation.near_dedup.shingles import sign

UNSPACED = ("THAI ", "LAO ", "MYANMAR ", "KHMER ", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA", "HENTAIGANA ")
UNSPACED += ("COMBINING KATAKANA", "BOPOMOFO ", "CJK ", "IDEOGRAPHIC ")


def words_reference(text: str) -> list[str]:
    """The rule, one character at a time; scripts by the names that Unicode gives the characters."""
    words, open_word = [], False
    for character in text.casefold():
        name, category = unicodedata.name(character, ""), unicodedata.category(character)
        if category == "Cf" or name.startswith("VARIATION SELECTOR"):
            continue
        if category[0] not in "LMN":
            open_word = False
        elif is_unspaced(name):
            words.append(character)
            open_word = False
        elif open_word:
            words[-1] += character
        else:
            words.append(character)
            open_word = True
    return words


def is_unspaced(name: str) -> bool:
    return name.startswith(UNSPACED)


def shingles_reference(text: str, words: int) -> set[tuple[str, ...]]:
    found = words_reference(text)
    if not found:
        return {("\0wordless", text.casefold())}
    if len(found) < words:
        return {tuple(found)}
    return {tuple(found[start : start + words]) for start in range(len(found) - words + 1)}


def jaccard(first: set, second: set) -> float:
    return len(first & second) / len(first | second)


def vocabulary(seed: int, size: int = 5000) -> list[str]:
    draw = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyzéüñ"
    return ["".join(draw.choices(letters, k=draw.randint(2, 11))) for _ in range(size)]


def planted(seed: int, originals: int = 300, length: int = 240) -> tuple[list[str], list[tuple[int, int]]]:
    """Random texts, each followed by one with 0 to 12 words replaced, at random places: Jaccard 1 down to 0.6."""
    draw, words, texts, pairs = random.Random(seed), vocabulary(seed), [], []
    for number in range(originals):
        text = draw.choices(words, k=draw.randint(length // 2, length))
        copy = list(text)
        for at in draw.sample(range(len(copy)), number % 13):
            copy[at] = draw.choice(words)
        pairs.append((len(texts), len(texts) + 1))
        texts += [" ".join(text), " ".join(copy).capitalize() + "."]
    return texts, pairs


def search(texts: list[str], config: NearDedup) -> NearPairs:
    index = sign(texts, config.words, config.permutations, config.seed)
    return find_pairs(index, texts, config, search_order(index))


def same(first: NearDuplicates, second: NearDuplicates) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
    )

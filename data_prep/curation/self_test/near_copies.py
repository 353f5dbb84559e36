"""Near-duplicates of the user's rows at known similarities."""

import random
from collections.abc import Sequence

from data_prep.curation.decontamination.text import word_spans, words_in
from data_prep.curation.near_dedup.compared import compared_text
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.self_test.truth import Path, longest, paths, replaced, text_at
from data_prep.rows import Row, shape_of

FEWEST_SHINGLES = 25
"""A shorter text has too few similarities to choose from."""
MOST_WORDS = 20_000
"""Longer texts are left alone: making a copy of them costs too long."""
NEAR = 0.02
"""A copy whose similarity is further from the asked one is not planted."""


def levels(config: NearDedup) -> dict[float, bool]:
    """The planted similarities and whether such a copy must be removed; the ones below are clearly below."""
    room = 1 - config.threshold
    above = [round(config.threshold + room * share, 3) for share in (0.75, 0.5, 0.25)]
    # What a contained row would be removed for is not planted: a copy with words added contains its original.
    below = [] if config.containment else [round(config.threshold - less, 3) for less in (0.2, 0.3)]
    return dict.fromkeys(above, True) | dict.fromkeys(below, False)


def shingle_set(text: str, words: int) -> set[tuple[str, ...]]:
    """The word n-grams of a text as words, by the definition of `near_dedup.shingles`; needs at least one word."""
    found = words_in(text, word_spans(text))
    return {tuple(found[at : at + words]) for at in range(max(len(found) - words + 1, 1))}


def exact_jaccard(first: str, second: str, words: int) -> float:
    """The Jaccard similarity of two texts' sets of word n-grams."""
    return jaccard(shingle_set(first, words), shingle_set(second, words))


def jaccard(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    """The common n-grams as a share of all."""
    return len(first & second) / len(first | second)


def can_copy(row: Row, config: NearDedup) -> bool:
    """Whether the longest text of the row that is compared is long enough."""
    path = _path(row, config)
    if path is None or len(text_at(row, path).split()) < FEWEST_SHINGLES + config.words:
        return False
    return len(compared_text(row, config.on).split()) <= MOST_WORDS


def near_copy(
    row: Row, level: float, config: NearDedup, pool: Sequence[str], draw: random.Random, identity: str
) -> tuple[Row, float] | None:
    """A copy of a row with this similarity or one close to it, and the exact one; None: it cannot be had.

    Args:
        row: the original; one that `can_copy`.
        level: the similarity, at most 1.
        config: what is compared, and the words of a shingle.
        pool: words to put in.
        draw: decides where and which.
        identity: id of the copy.
    """
    path = _path(row, config)
    assert path is not None, "rows that can be copied have a text"
    original = shingle_set(compared_text(row, config.on), config.words)
    # A changed word takes `words` shingles away and brings as many; fewer changes first, added words come closer.
    changes = int(len(original) * (1 - level) / (1 + level) / config.words)
    for fewer in range(changes + 1):
        text = _changed(text_at(row, path), changes - fewer, config.words, pool, draw)
        if text is None:
            continue
        changed = shingle_set(compared_text(replaced(row, path, text, identity), config.on), config.words)
        # Words added before another text part its first words from those before them.
        for parted in (0, config.words - 1):
            added = round((len(original & changed) - parted) / level) - len(original | changed) - parted
            longer = " ".join([text, *draw.choices(pool, k=max(added, 0))])
            copy = replaced(row, path, longer, identity)
            similarity = jaccard(original, shingle_set(compared_text(copy, config.on), config.words))
            if abs(similarity - level) <= NEAR:
                return copy, similarity
    return None


def _path(row: Row, config: NearDedup) -> Path | None:
    """The longest text among those that are compared, of a kind that can be changed alone."""
    if shape_of(row) == "text" or config.on == "row":
        return longest(row, paths(row))
    wanted = ("prompt",) if config.on == "prompt" else ("completion", "chosen")
    among = [path for path in paths(row) if path[0] in wanted or _is_turn(row, path, config.on)]
    return longest(row, among)


def _is_turn(row: Row, path: Path, on: str) -> bool:
    if path[0] != "messages":
        return False
    answers = row["messages"][path[1]]["role"] == "assistant"
    return answers == (on == "completion")


def _changed(text: str, changes: int, apart: int, pool: Sequence[str], draw: random.Random) -> str | None:
    """The text with so many of its words replaced, no two of them in one shingle; None: they do not fit."""
    starts, ends = (side.tolist() for side in word_spans(text))
    inner = len(starts) - 2 * (apart - 1)
    if changes * apart > inner:
        return None
    # Random places at least `apart` words from each other: places without room between them, then the room.
    places = sorted(draw.sample(range(inner - changes * (apart - 1)), changes))
    parts, done = list[str](), 0
    for number, place in enumerate(places):
        at = apart - 1 + place + number * (apart - 1)
        parts += [text[done : starts[at]], draw.choice(pool)]
        done = ends[at]
    return "".join([*parts, text[done:]])

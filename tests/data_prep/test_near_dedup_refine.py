"""Large groups of near-duplicates: decided in the order of keeping, whatever the order of the search was."""

import random

import numpy as np
import pytest
from near_dedup_reference import jaccard, same, search, shingles_reference

from data_prep.curation.near_dedup import refine
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.resolve import resolve


def variants(rows: int) -> list[str]:
    """All near each other, and far more than a window; a few of them below the threshold to each other."""
    draw, base = random.Random(0), [f"b{number}" for number in range(90)]
    return [
        " ".join([*draw.sample("stuvwxyz", 3), *base, str(draw.random()), *base[: number % 9]])
        for number in range(rows)
    ]


def greedy(texts: list[str], order: list[int], threshold: float) -> set[int]:
    shingles, kept = [shingles_reference(text, 5) for text in texts], list[int]()
    for row in order:
        if all(jaccard(shingles[row], shingles[other]) < threshold for other in kept):
            kept.append(row)
    return set(kept)


@pytest.mark.parametrize(
    "order", [list(range(150)), list(range(149, -1, -1)), random.Random(1).sample(range(150), 150)]
)
def test_beyond_the_window_the_order_of_keeping_decides_with_texts(order: list[int]):
    texts, config = variants(150), NearDedup(bucket_window=4, threshold=0.8)
    pairs, shingles = search(texts, config), [shingles_reference(text, 5) for text in texts]
    rough, found = (resolve(pairs, config, np.array(order), each) for each in (None, texts))
    assert set(np.flatnonzero(found.kept).tolist()) == greedy(texts, order, 0.8)
    assert found.kept.sum() < rough.kept.sum() < 100
    for decided in (rough, found):
        for row in np.flatnonzero(~decided.kept).tolist():
            other, similarity = decided.of(row)
            assert decided.kept[other] and order.index(other) < order.index(row)
            assert similarity == pytest.approx(jaccard(shingles[row], shingles[other])) and similarity >= 0.8


def test_a_group_that_nothing_holds_together_is_left_after_a_few_tries(monkeypatch: pytest.MonkeyPatch):
    words = [f"w{number}" for number in range(1300)]
    texts = [" ".join(words[4 * number : 4 * number + 100]) for number in range(300)]  # a chain
    config, compared = NearDedup(bucket_window=8), list[int]()
    pairs, compare = search(texts, config), refine.compare

    def counted(texts, pairs, *others):
        compared.append(len(pairs))
        return compare(texts, pairs, *others)

    monkeypatch.setattr(refine, "compare", counted)
    found = resolve(pairs, config, np.arange(300), texts)
    assert 1 <= len(compared) <= refine.TRIES and same(found, resolve(pairs, config, np.arange(300)))


def test_a_try_that_pays_does_not_count(monkeypatch: pytest.MonkeyPatch):
    """Two families of variants, held together by a row between them: two rows stay, whatever TRIES is."""
    monkeypatch.setattr(refine, "TRIES", 1)
    words = [f"w{number}" for number in range(112)]
    texts = [" ".join([*words[start : start + 100], f"own{start}{n}"]) for start in (0, 12) for n in range(60)]
    texts.append(" ".join(words[6:106]))
    order, config = list(range(len(texts)))[::-1][1:] + [len(texts) - 1], NearDedup(bucket_window=4)
    found = resolve(search(texts, config), config, np.array(order), texts)
    assert set(np.flatnonzero(found.kept).tolist()) == greedy(texts, order, 0.8) and found.kept.sum() == 2

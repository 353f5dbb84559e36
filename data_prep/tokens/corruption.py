"""What a masked or a denoising model learns from: tokens are hidden, and the labels say which they were.

A row's draws follow from the seed, its id and the number of its copy alone: any order, any number of processes and any
resumed run hides the same tokens.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from data_prep.tokens.masks import IGNORED

SHOWN_AS_MASK, SHOWN_AS_RANDOM = 0.8, 0.1
"""Of the tokens that a masked model must predict (arXiv 1810.04805); the others are shown as they are."""


def generator(*named: object) -> np.random.Generator:
    """A random generator that depends on nothing but what is named."""
    digest = hashlib.sha256("\x00".join(map(str, named)).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def mask_tokens(
    tokens: Sequence[int], share: float, mask: int, ordinary: np.ndarray, draw: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Input and labels of equal length; at least one token is hidden. `ordinary` are the ids for random tokens."""
    count = max(1, round(len(tokens) * share))
    hidden = draw.permutation(len(tokens))[:count]
    inputs, labels = np.array(tokens), np.full(len(tokens), IGNORED)
    labels[hidden] = inputs[hidden]
    fate = draw.random(count)
    inputs[hidden[fate < SHOWN_AS_MASK]] = mask
    replaced = hidden[(fate >= SHOWN_AS_MASK) & (fate < SHOWN_AS_MASK + SHOWN_AS_RANDOM)]
    inputs[replaced] = draw.choice(ordinary, len(replaced))
    return inputs.tolist(), labels.tolist()


def corrupt_spans(
    tokens: Sequence[int], share: float, mean_span: float, sentinels: Sequence[int], draw: np.random.Generator
) -> tuple[list[int], list[int]]:
    """The text with each gap as one sentinel; and the sentinels, each with what stood in its gap, and one at the end.

    Gaps and what lies between them have random lengths of at least 1, as T5's `random_spans_noise_mask`.
    """
    hidden = min(max(1, round(len(tokens) * share)), len(tokens) - 1)
    gaps = min(max(1, round(hidden / mean_span)), len(sentinels) - 1, hidden, len(tokens) - hidden)
    kept, cut = _parts(len(tokens) - hidden, gaps, draw), _parts(hidden, gaps, draw)
    inputs: list[int] = []
    targets: list[int] = []
    place = 0
    for number in range(gaps):
        inputs += [*tokens[place : place + kept[number]], sentinels[number]]
        place += kept[number]
        targets += [sentinels[number], *tokens[place : place + cut[number]]]
        place += cut[number]
    return inputs, [*targets, sentinels[gaps]]


def _parts(total: int, count: int, draw: np.random.Generator) -> list[int]:
    """`total` in `count` parts of at least 1, every division equally likely."""
    borders = np.sort(draw.choice(total - 1, count - 1, replace=False)) + 1 if count > 1 else np.array([], dtype=int)
    return np.diff(np.concatenate(([0], borders, [total]))).astype(int).tolist()

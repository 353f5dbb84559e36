"""Tokenised conversations that share rows: whole ones only, none sees another.

The first token of each has no loss: nothing before it may predict it. Alone it had none either, since a next-token loss
has no place for it.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from data_prep.tokens.masks import IGNORED
from data_prep.tokens.packing import WINDOW, best_fit

Packing = Literal["none", "best_fit"]

Conversation = tuple[str, list[int], list[int]]
"""Id, token ids and labels."""


def packed_columns(
    batches: Iterable[dict[str, list[Any]]], max_length: int, together: bool
) -> Iterator[dict[str, list[Any]]]:
    """Columns of packed rows from columns `id`, `input_ids` and `labels`, a window of conversations at a time.

    input_ids and labels (equal lengths, at most `max_length`), lengths of the conversations of a row, and their ids as
    documents. `together` False leaves each conversation its own row, as validation needs: the same rows, packed or not.
    """
    rows = (row for batch in batches for row in zip(batch["id"], batch["input_ids"], batch["labels"], strict=True))
    while window := list(itertools.islice(rows, WINDOW)):
        yield _columns(window, max_length if together else None)


def _columns(window: list[Conversation], max_length: int | None) -> dict[str, list[Any]]:
    if max_length is None:
        groups = [[at] for at in range(len(window))]
    else:
        pieces = ((str(at), ids) for at, (_, ids, _) in enumerate(window))
        groups = [[int(at) for at in packed.documents] for packed in best_fit(pieces, max_length)]
    return {
        "input_ids": [[token for at in group for token in window[at][1]] for group in groups],
        "labels": [[label for at in group for label in _without_first(window[at][2])] for group in groups],
        "lengths": [[len(window[at][1]) for at in group] for group in groups],
        "documents": [[window[at][0] for at in group] for group in groups],
    }


def _without_first(labels: list[int]) -> list[int]:
    return [IGNORED, *labels[1:]]

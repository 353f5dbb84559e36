"""How well findings agree with labelled text, by characters and whatever the label."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Agreement(NamedTuple):
    """Shares from 0 to 1; 1 where there is nothing to find, or nothing was found."""

    precision: float
    """Of the found characters, those that are labelled."""
    recall: float
    """Of the labelled characters, those that were found."""

    @property
    def f2(self) -> float:
        """Their F-measure with recall weighed twice (van Rijsbergen): 5PR / (4P + R)."""
        weighed = 4 * self.precision + self.recall
        return 5 * self.precision * self.recall / weighed if weighed else 0.0


def agreement(labelled: Sequence[Iterable[tuple[int, int]]], found: Sequence[Iterable[tuple[int, int]]]) -> Agreement:
    """Compare [start, end) spans, text by text: a character counts once, however many spans cover it; texts add up."""
    right = wrong = missed = 0
    for gold, ours in zip(labelled, found, strict=True):
        expected, seen = _characters(gold), _characters(ours)
        right, wrong, missed = right + len(expected & seen), wrong + len(seen - expected), missed + len(expected - seen)
    return Agreement(
        right / (right + wrong) if right + wrong else 1.0, right / (right + missed) if right + missed else 1.0
    )


def _characters(spans: Iterable[tuple[int, int]]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}

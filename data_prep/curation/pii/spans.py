"""Findings in a text, how overlapping ones are resolved, and the protocol of further detectors."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Span(NamedTuple):
    """One finding: the characters text[start:end]."""

    start: int
    end: int
    kind: str
    score: float
    rule: str = ""
    """What within the kind: the national number (`us_ssn`), the provider, the country of a phone number."""


class Detector(Protocol):
    """A further detector (names and places by a model); its spans are merged with those of the rules."""

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The findings of each text, in any order."""
        ...


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Choose non-overlapping spans, by start.

    The rule: one sweep splits the spans into groups of chained overlaps; within a group the highest score wins, then
    the longest, then the first, and what overlaps a winner is dropped.
    """
    kept: list[Span] = []
    group: list[Span] = []
    end = 0
    for span in sorted(spans, key=lambda each: each.start):
        if group and span.start >= end:
            kept += _winners(group)
            group = []
        end = max(end, span.end) if group else span.end
        group.append(span)
    return kept + _winners(group)


def _winners(group: list[Span]) -> list[Span]:
    if len(group) < 2:
        return group
    taken: dict[int, Span] = {}
    # A set of taken characters costs the length of the winners, never the number of pairs.
    characters: set[int] = set()
    for span in sorted(group, key=lambda each: (-each.score, each.start - each.end, each.start)):
        if characters.isdisjoint(range(span.start, span.end)):
            taken[span.start] = span
            characters.update(range(span.start, span.end))
    return [taken[start] for start in sorted(taken)]

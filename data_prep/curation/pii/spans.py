"""Findings in a text, how overlapping ones are resolved, and the protocol of further detectors."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from data_prep.curation.pii.kinds import LOOSE


class Span(NamedTuple):
    """One finding: the characters text[start:end]."""

    start: int
    end: int
    kind: str
    score: float
    rule: str = ""
    """What within the kind: the national number (`us_ssn`), the provider, the country of a phone number, the model."""


class Detector(Protocol):
    """A further detector (names and places by a model); its spans are merged with those of the rules."""

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The findings of each text, in any order."""
        ...


JOIN = "join"
"""The rule of a span that is no finding: the gap between two, which belongs to them when both count."""
_NARROW = re.compile(r"[ \u00a0]|[.] |-")
_WIDE = re.compile(r"[ \t\u00a0]{0,2}[,.]?[ \t\r\n\u00a0]{0,4}|\\n")
_PLACED = frozenset({"address", "place"})
_SHORTEST_REST = 2


def joins(spans: Iterable[Span], text: str) -> list[Span]:
    """Gaps between neighbouring loose findings: `name` gaps join equal kinds, `address` gaps parts of an address."""
    loose = [span for span in spans if span.kind in LOOSE]
    starts = {span.start for span in loose}
    found = set[Span]()
    for span in loose:
        for kind, gap in (("name", _NARROW), ("address", _WIDE)):
            hit = gap.match(text, span.end)
            if hit and hit.end() > span.end and hit.end() in starts:
                found.add(Span(span.end, hit.end(), kind, 1.0, JOIN))
                break
    return sorted(found)


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Choose non-overlapping spans, by start.

    The rule for kinds with exact borders: one sweep splits the spans into groups of chained overlaps; within a group
    the highest score wins, then the longest, then the first, and what overlaps a winner is dropped. Loose findings are
    joined where they overlap, take the kind of the one that would win, and lose what one with exact borders covers.
    """
    exact: list[Span] = []
    loose: list[Span] = []
    for span in spans:
        (loose if span.kind in LOOSE else exact).append(span)
    kept = [winner for group in _overlapping(exact) for winner in _winners(group)]
    return sorted([*kept, *_left(_joined(loose), kept)]) if loose else kept


def _overlapping(spans: list[Span]) -> Iterator[list[Span]]:
    group: list[Span] = []
    end = 0
    for span in sorted(spans, key=lambda each: each.start):
        if group and span.start >= end:
            yield group
            group = []
        end = max(end, span.end) if group else span.end
        group.append(span)
    yield group


def _rank(span: Span) -> tuple[float, int, int]:
    return -span.score, span.start - span.end, span.start


def _winners(group: list[Span]) -> list[Span]:
    if len(group) < 2:
        return group
    taken: dict[int, Span] = {}
    # A set of taken characters costs the length of the winners, never the number of pairs.
    characters: set[int] = set()
    for span in sorted(group, key=_rank):
        if characters.isdisjoint(range(span.start, span.end)):
            taken[span.start] = span
            characters.update(range(span.start, span.end))
    return [taken[start] for start in sorted(taken)]


def _joined(loose: list[Span]) -> list[Span]:
    """Findings that overlap as one, then those with a gap that belongs to them."""
    gaps = {span.start: (span.end, span.kind) for span in loose if span.rule == JOIN}
    chains: list[list[Span]] = []
    for group in _overlapping([span for span in loose if span.rule != JOIN]):
        if not group:
            continue
        piece = group[0]
        if len(group) > 1:
            piece = min(group, key=_rank)._replace(start=piece.start, end=max(span.end for span in group))
        if chains and _belong(chains[-1][-1], piece, gaps):
            chains[-1].append(piece)
        else:
            chains.append([piece])
    return [chain[0] if len(chain) == 1 else _one(chain) for chain in chains]


def _belong(before: Span, after: Span, gaps: dict[int, tuple[int, str]]) -> bool:
    end, gap = gaps.get(before.end, (before.end, "address"))
    if end != after.start:
        return False
    placed = before.kind in _PLACED and after.kind in _PLACED
    return placed or (gap == "name" and before.kind == after.kind)


def _one(chain: list[Span]) -> Span:
    kind = "address" if any(span.kind == "address" for span in chain) else chain[0].kind
    return min(chain, key=_rank)._replace(start=chain[0].start, end=chain[-1].end, kind=kind)


def _left(loose: list[Span], exact: list[Span]) -> Iterator[Span]:
    """What winners with exact borders leave of loose findings; both by start and without overlaps among themselves."""
    position = 0
    for span in loose:
        while position < len(exact) and exact[position].end <= span.start:
            position += 1
        start, at = span.start, position
        while at < len(exact) and exact[at].start < span.end:
            if exact[at].start - start >= _SHORTEST_REST:
                yield span._replace(start=start, end=exact[at].start)
            start, at = max(start, exact[at].end), at + 1
        if start == span.start or span.end - start >= _SHORTEST_REST:
            yield span._replace(start=start)

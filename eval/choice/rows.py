"""Windows of one item as rows of a forward pass: continuations of one context are read with it only once.

A row is the tokens that all windows share, followed by one branch for each different rest. A branch sees the shared
tokens and itself, and its positions go on where the shared tokens end: each window is computed as if it were alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from eval.measures.log_likelihood import Window


class Scored(NamedTuple):
    """Where in a row the tokens of one window are predicted."""

    window: int
    positions: list[int]
    targets: list[int]


class PackedRow(NamedTuple):
    """Tokens of a row, their position ids, the branch that each belongs to (0: shared), and what it scores."""

    ids: list[int]
    positions: list[int]
    branches: list[int]
    scored: list[Scored]

    @property
    def branched(self) -> bool:
        """Whether a token must not see all tokens before it."""
        return bool(self.branches) and self.branches[-1] > 1


def rows_of(windows: Sequence[Window], branching: bool, limit: int) -> list[PackedRow]:
    """Rows that score every window once.

    Without `branching`, and where the branches together are longer than `limit`, only a window whose inputs begin
    another's shares its row: that needs no mask.
    """
    groups = _prefix_groups(windows)
    if not branching or len(groups) == 1:
        return [_single(windows, group) for group in groups]
    longest = [windows[group[0]].inputs for group in groups]
    shared = _common(longest)
    total = shared + sum(len(inputs) - shared for inputs in longest)
    if not shared or total > limit:
        return [_single(windows, group) for group in groups]
    return [_branched(windows, groups, shared)]


def _prefix_groups(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of windows whose inputs begin the inputs of the first of their group, which is the longest."""
    groups: list[list[int]] = []
    for index in sorted(range(len(windows)), key=lambda index: -len(windows[index].inputs)):
        inputs = windows[index].inputs
        home = next((group for group in groups if windows[group[0]].inputs[: len(inputs)] == inputs), None)
        if home is None:
            groups.append([index])
        else:
            home.append(index)
    return groups


def _single(windows: Sequence[Window], group: list[int]) -> PackedRow:
    inputs = windows[group[0]].inputs
    scored = []
    for index in group:
        end, targets = len(windows[index].inputs), windows[index].targets
        scored.append(Scored(index, list(range(end - len(targets), end)), targets))
    return PackedRow(inputs, list(range(len(inputs))), [0] * len(inputs), scored)


def _branched(windows: Sequence[Window], groups: list[list[int]], shared: int) -> PackedRow:
    first = windows[groups[0][0]].inputs[:shared]
    ids, positions, branches = list(first), list(range(shared)), [0] * shared
    scored = []
    for branch, group in enumerate(groups, 1):
        rest, offset = windows[group[0]].inputs[shared:], len(ids) - shared
        for index in group:
            end, targets = len(windows[index].inputs), windows[index].targets
            at = [place if place < shared else place + offset for place in range(end - len(targets), end)]
            scored.append(Scored(index, at, targets))
        ids += rest
        positions += range(shared, shared + len(rest))
        branches += [branch] * len(rest)
    return PackedRow(ids, positions, branches, scored)


def _common(sequences: Sequence[list[int]]) -> int:
    """How many tokens all sequences begin with."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count

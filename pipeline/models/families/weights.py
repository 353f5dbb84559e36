"""Names and layouts of weights, ours against another implementation's, in both directions and bit by bit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one of their tensors becomes ours, and back."""

    read: Callable[[Tensor, int], list[Tensor]]
    write: Callable[[list[Tensor]], Tensor]


SAME = Layout(lambda theirs, _: [theirs], lambda ours: ours[0])
TRANSPOSED = Layout(lambda theirs, _: [theirs.mT], lambda ours: ours[0].mT)
SPLIT = Layout(lambda theirs, parts: list(theirs.chunk(parts, 0)), lambda ours: torch.cat(ours, 0))
SPLIT_TRANSPOSED = Layout(lambda theirs, n: [part.mT for part in theirs.chunk(n, 1)], lambda ours: torch.cat(ours).mT)
ROW = Layout(lambda theirs, _: [theirs[0]], lambda ours: ours[0][None])


@dataclass(frozen=True)
class Weight:
    """Our names, joined when there are several, for their name and its copies; `{n}` is the number of a layer."""

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    layout: Layout = SAME

    @property
    def our_names(self) -> tuple[str, ...]:
        """Our names, always a tuple."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def their_names(self) -> tuple[str, ...]:
        """Their name and its copies, always a tuple."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


def layer(prefix: str, their_prefix: str, names: Mapping[str, str], layout: Layout = SAME) -> list[Weight]:
    """Weights of every layer: our name under our prefix for their name under theirs."""
    return [Weight(f"{prefix}.{ours}", f"{their_prefix}.{theirs}", layout) for ours, theirs in names.items()]


def linear(ours: str, theirs: str) -> dict[str, str]:
    """Weight and bias of a linear layer or a norm."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def to_ours(table: list[Weight], theirs: Mapping[str, Tensor]) -> Weights:
    """Their weights under our names; KeyError names one that the table does not know."""
    found: Weights = {}
    for name, tensor in theirs.items():
        for weight in table:
            matches = [re.fullmatch(_pattern(their), name) for their in weight.their_names]
            match = next((match for match in matches if match), None)
            if match:
                names = [_fill(ours, match.groups()) for ours in weight.our_names]
                found.update(zip(names, weight.layout.read(tensor, len(names)), strict=True))
                break
        else:
            raise KeyError(f"{name}: not in the table of this family; add a Weight for it")
    return found


def to_theirs(table: list[Weight], ours: Mapping[str, Tensor]) -> Weights:
    """Our weights under their names and every copy's; KeyError names one that the table does not know."""
    found: Weights = {}
    known: set[str] = set()
    for weight in table:
        first = _pattern(weight.our_names[0])
        for match in filter(None, (re.fullmatch(first, name) for name in ours)):
            names = [_fill(name, match.groups()) for name in weight.our_names]
            tensor = weight.layout.write([ours[name] for name in names]).contiguous()
            found |= {_fill(their, match.groups()): tensor for their in weight.their_names}
            known.update(names)
    for name in ours:
        if name not in known:
            raise KeyError(f"{name}: not in the table of this family; add a Weight for it")
    return found


def _pattern(name: str) -> str:
    return re.escape(name).replace(r"\{n\}", r"(\d+)")


def _fill(name: str, numbers: tuple[str, ...]) -> str:
    return name.replace("{n}", numbers[0]) if numbers else name

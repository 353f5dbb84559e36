"""How long work reports its progress without knowing who shows it."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Pass `items` through while somebody shows how far they have come."""

    def __call__(self, items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
        """The items, one by one; `total` where the iterable does not know its length."""
        ...


def about(track: Track, what: str) -> Track:
    """The same `Track` with titles that say what the work is about: "base, gsm8k: scoring"."""

    def told(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
        return track(items, f"{what}: {title}", total)

    return told


def silent(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """A `Track` that shows nothing."""
    return iter(items)

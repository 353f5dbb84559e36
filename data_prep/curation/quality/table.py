"""Two growing structures on numpy arrays: a column of values, and a table that numbers hashes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.curation.quality.hashing import Hashes, Ints


class Column:
    """An array that grows at its end, of rows of `width` values (1: a flat array)."""

    def __init__(self, kind: npt.DTypeLike, width: int = 1) -> None:
        self._room = np.zeros(1024 if width == 1 else (1024, width), kind)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def values(self) -> npt.NDArray[Any]:
        """What it holds, as a view that the next `append` may outdate."""
        return self._room[: self._length]

    def append(self, values: npt.NDArray[Any]) -> None:
        """Put values behind the last."""
        end = self._length + len(values)
        if end > len(self._room):
            room = np.zeros((max(2 * len(self._room), end), *self._room.shape[1:]), self._room.dtype)
            room[: self._length] = self.values
            self._room = room
        self._room[self._length : end] = values
        self._length = end


class HashTable:
    """Numbers 1, 2, … for 64-bit hashes other than 0: open addressing, at most half full."""

    def __init__(self) -> None:
        self._keys = Column(np.uint64)
        self._keys.append(np.zeros(1, np.uint64))
        self._resize(16)

    def __len__(self) -> int:
        return len(self._keys) - 1

    def find(self, hashes: Hashes) -> Ints:
        """The number of each hash; 0: it has none."""
        keys = self._keys.values
        slots = (hashes >> self._shift).view(np.int64)
        numbers = self._slots.take(slots)
        wrong = np.flatnonzero(keys.take(numbers) != hashes)
        wrong = wrong[numbers[wrong] != 0]
        slots = slots[wrong]
        while len(wrong):
            slots = (slots + 1) & self._mask
            found = self._slots.take(slots)
            numbers[wrong] = found
            on = np.flatnonzero((keys.take(found) != hashes[wrong]) & (found != 0))
            wrong, slots = wrong[on], slots[on]
        return numbers.astype(np.int64)

    def add(self, hashes: Hashes) -> None:
        """Number distinct hashes that have no number yet, in their order."""
        first = len(self._keys)
        self._keys.append(hashes)
        if 2 * len(self._keys) > len(self._slots):
            self._resize(int(len(self._keys) * 4).bit_length())
            first, hashes = 1, self._keys.values[1:]
        self._insert(hashes, np.arange(first, first + len(hashes), dtype=np.int32))

    def _resize(self, bits: int) -> None:
        self._slots = np.zeros(1 << bits, np.int32)
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1

    def _insert(self, hashes: Hashes, numbers: npt.NDArray[np.int32]) -> None:
        slots = (hashes >> self._shift).view(np.int64)
        while len(numbers):
            free = self._slots.take(slots) == 0
            self._slots[slots[free]] = numbers[free]  # of several that want one slot the last gets it
            on = np.flatnonzero(self._slots.take(slots) != numbers)
            slots, numbers = (slots[on] + 1) & self._mask, numbers[on]

"""The parts that are boilerplate, in one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.arrays import load_arrays, save_arrays

BOILERPLATE = np.dtype([("part", "<u8"), ("keeper", "<u8")])
"""Hash of a part, and of the id of the row that keeps it (0: none does)."""


@dataclass(frozen=True)
class Boilerplate:
    """What is removed from the rows of a data set."""

    parts: NDArray[Any]
    """(parts,) of type BOILERPLATE, sorted by part."""
    documents: int
    """Rows that were counted."""
    needed: int
    """Number of them that makes a part boilerplate."""

    def save(self, path: Path) -> None:
        """Write one file; the same boilerplate is the same bytes."""
        save_arrays(path, self.parts, np.array([self.documents, self.needed], dtype="<i8"))

    @property
    def keepers(self) -> dict[int, int]:
        """Part → the row that keeps it (a new dict)."""
        return dict(zip(self.parts["part"].tolist(), self.parts["keeper"].tolist(), strict=True))


def load_boilerplate(path: Path) -> Boilerplate:
    """What `Boilerplate.save` wrote; DataError where the file is cut off."""
    parts, numbers = load_arrays(path, 2)
    return Boilerplate(parts, *numbers.tolist())

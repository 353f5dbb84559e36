"""The index of near-duplicate removal: one record per text, of one shard or of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.arrays import joined, save_arrays
from data_prep.curation.near_dedup.words import Hashes, Positions


def record(permutations: int) -> np.dtype[Any]:
    """What the index holds per text: 16 bytes and 4 per permutation."""
    signature = ("signature", "<u4", (permutations,))
    return np.dtype([("fingerprint", "<u8"), ("shingles", "<u4"), ("characters", "<u4"), signature])


@dataclass(frozen=True)
class Signatures:
    """The records of the texts, in their order."""

    records: NDArray[Any]
    """(texts,) of the type `record(permutations)`."""

    @property
    def matrix(self) -> NDArray[np.uint32]:
        """MinHash values (texts, permutations)."""
        return self.records["signature"]

    @property
    def fingerprints(self) -> Hashes:
        """Sum of the hashes of all shingles: equal for equal words."""
        return self.records["fingerprint"]

    @property
    def sizes(self) -> Positions:
        """Number of shingles, with repeats (a new array)."""
        return self.records["shingles"].astype(np.int64)

    @property
    def characters(self) -> Positions:
        """Length of the text (a new array)."""
        return self.records["characters"].astype(np.int64)

    def save(self, path: Path) -> None:
        """Write a .npy file (528 bytes per text with 128 permutations); the same texts are the same bytes."""
        save_arrays(path, self.records)


def load_signatures(paths: list[Path], permutations: int) -> Signatures:
    """The signatures of all shards, one after the other, read straight into one array.

    Raises:
        DataError: a file is no file of signatures, or one of other settings.
    """
    return Signatures(joined(paths, record(permutations)))

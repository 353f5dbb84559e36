"""The settings of near-duplicate removal. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel


class NearDedup(StrictModel):
    """Remove rows whose word n-grams are nearly those of a row that is kept.

    A row is removed only for an exact (not estimated) similarity to a row that is kept: never because it resembles
    a row that resembles a row.
    """

    threshold: float = Field(default=0.8, ge=0.5, le=1)
    """Smallest exact Jaccard similarity of the two sets of word n-grams at which the later row is removed."""

    containment: float | None = Field(default=None, ge=0.5, le=1)
    """Also remove a row of whose word n-grams at least this share occurs in one kept row; null: Jaccard alone decides.
    LSH proposes by Jaccard, so that a short row inside a far longer one is mostly not found."""

    words: int = Field(default=5, ge=1, le=32)
    """Words per shingle. A text with fewer words is one shingle as a whole."""

    keep: Literal["longest", "first", "key"] = "longest"
    """Which row goes first and so is kept: the longest in characters, the first in the input, or the one with the
    lowest key (of a quality score, hand in its negative). Ties are settled by the key, then the content, then the
    position."""

    permutations: int = Field(default=128, ge=16, le=1024)
    """Length of a MinHash signature; each costs 4 bytes per row of memory."""

    proposal_probability: float = Field(default=0.99, gt=0, lt=1)
    """Least probability that LSH proposes a pair whose similarity is exactly the threshold. It decides the bands."""

    bucket_window: int = Field(default=16, ge=1)
    """Bound of the work on boilerplate. In a bucket (rows with one band in common) LSH pairs each row with this many
    first rows of the bucket and with this many rows after it, in the order of `keep`; and of all its pairs a row is
    compared exactly with this many first ones and this many most alike by signature."""

    alarm_share: float = Field(default=0.5, gt=0, le=1)
    """A source that loses more than this share of its rows raises an alarm."""

    seed: int = Field(default=42, ge=0)
    """Seed of the MinHash permutations."""

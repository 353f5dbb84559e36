"""The settings of near-duplicate removal. Imports only pydantic."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data_prep import strict

SEARCH_FROM = 0.7


class NearDedup(strict.StrictModel):
    """Remove rows whose word n-grams are nearly those of a row that is kept.

    A row is removed only for an exact (not estimated) similarity to a row that is kept: never because it resembles
    a row that resembles a row.
    """

    on: Literal["row", "prompt", "completion"] = "row"
    """The text that is compared: `row` is all of it (of a preference row the prompt with the chosen and the rejected
    side), `prompt` what the model is given, `completion` what it answers (of a preference row the chosen side). Of a
    text row always the text. Rows whose prompt or completion is empty are never near each other by it. A chosen and a
    rejected side stay together whatever is compared: the row is kept or removed as a whole."""

    threshold: float = strict.threshold(0.8, ge=0.5, le=1)
    """Smallest exact Jaccard similarity of the two sets of word n-grams at which the later row is removed."""

    search_from: float = Field(default=SEARCH_FROM, ge=0.5, le=1)
    """Pairs from this Jaccard similarity on are searched and noted, so that any threshold above it can be tried without
    a new search. Left out: 0.7, or the threshold where that is lower."""

    containment: float | None = strict.threshold(None, ge=0.5, le=1)
    """Also remove a row of whose word n-grams at least this share occurs in one kept row; null: Jaccard alone decides.
    LSH proposes by Jaccard, so that a short row inside a far longer one is mostly not found."""

    search_containment_from: float | None = Field(default=None, ge=0.5, le=1)
    """Pairs from this containment on are noted as well, whatever their Jaccard similarity. Left out: `containment`."""

    words: int = Field(default=5, ge=1, le=32)
    """Words per shingle. A text with fewer words is one shingle as a whole."""

    keep: Literal["longest", "first", "best", "earliest"] = strict.threshold("longest")
    """Which of near-equal rows is kept, after those that pass the other steps and those of the test split: the longest
    in characters, the first of the input, the one with the highest `best_of`, or with the lowest `earliest_by`. Rows
    without that value come last; ties are settled by the place in the input."""

    best_of: str | None = strict.threshold(None, min_length=1)
    """With `keep: best`: the column of measures whose highest value is kept, e.g. `quality_score`."""

    earliest_by: str | None = Field(default=None, min_length=1)
    """With `keep: earliest`: the meta field whose lowest value is kept, e.g. `date` (ISO 8601) or `version`."""

    permutations: int = Field(default=128, ge=16, le=1024)
    """Length of a MinHash signature; each costs 4 bytes per row of memory."""

    proposal_probability: float = Field(default=0.98, gt=0, lt=1)
    """Least probability that LSH proposes a pair whose similarity is exactly `search_from`. It decides the bands."""

    bucket_window: int = Field(default=16, ge=1)
    """Bound of the work on boilerplate. In a bucket (rows with one band in common) LSH pairs each row with this many
    first rows of the bucket and with this many rows after it, longest first; and of all its pairs a row is compared
    exactly with this many first ones and this many most alike by signature."""

    alarm_share: float = strict.threshold(0.5, gt=0, le=1)
    """A source that loses more than this share of its rows raises an alarm."""

    seed: int = Field(default=42, ge=0)
    """Seed of the MinHash permutations."""

    @model_validator(mode="before")
    @classmethod
    def search_follows_the_limits(cls, given: Any) -> Any:
        """What is searched for, where it is left out: enough for the limits."""
        if not isinstance(given, dict):
            return given
        limit, contained = given.get("threshold"), given.get("containment")
        if "search_from" not in given and isinstance(limit, int | float):
            given = {**given, "search_from": min(SEARCH_FROM, limit)}
        if given.get("search_containment_from") is None and contained is not None:
            given = {**given, "search_containment_from": contained}
        return given

    @model_validator(mode="after")
    def limits_are_searched_for(self) -> Self:
        """A limit below what is searched for would miss pairs in silence."""
        if self.threshold < self.search_from:
            raise ValueError(f"near_dedup.threshold: {self.threshold} is {_below('search_from', self.search_from)}")
        if self.containment is not None:
            searched = self.search_containment_from
            if searched is None or self.containment < searched:
                below = _below("search_containment_from", searched)
                raise ValueError(f"near_dedup.containment: {self.containment} is {below}")
        return self

    @model_validator(mode="after")
    def the_rule_has_its_field(self) -> Self:
        """`best` and `earliest` need to know of what; a field that nothing uses is a mistake."""
        for keep, field in (("best", "best_of"), ("earliest", "earliest_by")):
            if (self.keep == keep) != (getattr(self, field) is not None):
                raise ValueError(f"near_dedup.keep: {self.keep}; near_dedup.{field} goes with keep={keep}, set both")
        return self


def _below(field: str, searched: float | None) -> str:
    return f"below near_dedup.{field} {searched}; lower {field} too, which searches for pairs again"

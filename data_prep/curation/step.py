"""What a filter step is: it measures rows (costly, in any process), and reads its reasons off the measures (cheap).

The two are apart so that other thresholds can be tried without measuring again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from data_prep.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Limit:
    """One number that a measure is held against: what a what-if table varies."""

    rule: str
    column: str
    side: Literal["min", "max"]
    value: float


class Edit(Protocol):
    """A step that changes rows."""

    def edit(self, row: Row) -> tuple[Row, dict[str, int]]:
        """The changed row (the given one stays as it is), and how many changes of each kind were made; {}: none."""
        ...


class Step(Protocol):
    """A step that judges each row by itself. Made anew, from its configuration, in each process: keep models lazy."""

    def columns(self) -> "Mapping[str, pa.DataType]":
        """The measures: column → Arrow type. Each name is the step's, or begins with it and an underscore."""
        ...

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """Per column one value for each row of a shard; None where there is nothing to measure.

        Must not depend on which rows stand together.
        """
        ...

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """Per row of a table with at least these columns, why it is dropped, rule by rule; []: it passes."""
        ...

    def limits(self) -> Sequence[Limit]:
        """The numeric limits that `reasons` applies, for the what-if table; []: there are none."""
        ...

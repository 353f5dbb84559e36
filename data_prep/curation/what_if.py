"""What other limits would keep: rows and words per value of each limit, all other steps being as they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.config import CurationSteps
from data_prep.curation.registry import judging, make_steps
from data_prep.curation.step import Limit

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 100_000
"""Of a larger ledger, evenly spread row groups are looked at: the order of rows is that of hashed ids, so random."""
QUANTILES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
BORDERLINE = 3


def what_if(ledger: Path, steps: CurationSteps) -> dict[str, Any]:
    """A table per numeric limit.

    Returns:
        `{"rows": rows looked at, "of": all rows, "limits": [{"step", "rule", "side", "limit", "values",
        "borderline"}]}`; `values`: `[{"value", "rows", "words", "current"}]`, `borderline`: the rows next to the limit.
    """
    if not ledger.exists():
        return {"rows": 0, "of": 0, "limits": []}
    limits = [(name, limit) for name, step in make_steps(steps, None).items() for limit in step.limits()]
    sample = _Sample(ledger)
    views = _Views(sample, sample.failed(judging(steps)), limits)
    return {
        "rows": len(views.words),
        "of": sample.total,
        "limits": [found for name, limit in limits if (found := views.of(name, limit))],
    }


class _Sample:
    """Row groups of a ledger; one column at a time is read, so that memory does not grow with the limits."""

    def __init__(self, ledger: Path) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(ledger)
        self.total = self._file.metadata.num_rows
        step = max(1, -(-self.total // MOST_ROWS))
        self._groups = range(0, self._file.num_row_groups, min(step, self._file.num_row_groups))

    def column(self, name: str) -> "pa.ChunkedArray":
        """One column of the rows looked at."""
        return self._file.read_row_groups(list(self._groups), columns=[name], use_threads=False)[name]

    def failed(self, names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """Per step, whether each row fails it."""
        found: dict[str, list[bool]] = {name: [] for name in names}
        for group in self._groups:
            table = self._file.read_row_group(group, columns=["reasons"], use_threads=False)
            for reasons in table["reasons"].to_pylist():
                steps = {reason.partition(": ")[0] for reason in reasons}
                for name, fails in found.items():
                    fails.append(name in steps)
        return {name: np.array(fails, dtype=bool) for name, fails in found.items()}


class _Views:
    """Looks at the same rows through one limit after the other."""

    def __init__(
        self, sample: _Sample, failed: Mapping[str, NDArray[np.bool_]], limits: Sequence[tuple[str, Limit]]
    ) -> None:
        self._sample, self._failed, self._limits = sample, failed, limits
        self.words = sample.column("words").to_numpy()

    def of(self, name: str, limit: Limit) -> dict[str, Any] | None:
        """The table of one limit; None when no row was measured."""
        values = self._values(limit)
        if np.isnan(values).all():
            return None
        fails_step = self._failed[name]
        # A row beyond the limit that its step passes is an exception that the limit does not touch.
        judged = ~np.isnan(values) & ~(_beyond(values, limit.value, limit) & ~fails_step)
        otherwise_kept = self._passes_all_else(name, limit, fails_step)
        grid = np.unique([*np.quantile(values[~np.isnan(values)], QUANTILES), limit.value])
        kept = [otherwise_kept & ~(_beyond(values, value, limit) & judged) for value in grid]
        return {
            "step": name,
            "rule": limit.rule,
            "side": limit.side,
            "limit": limit.value,
            "values": [
                {
                    "value": float(value),
                    "rows": int(each.sum()),
                    "words": int(self.words[each].sum()),
                    "current": bool(value == limit.value),
                }
                for value, each in zip(grid, kept, strict=True)
            ],
            "borderline": self._borderline(values, limit, otherwise_kept & judged),
        }

    def _values(self, limit: Limit) -> NDArray[np.float64]:
        return np.array(self._sample.column(limit.column).to_pylist(), dtype=np.float64)  # None becomes NaN

    def _passes_all_else(self, name: str, limit: Limit, fails_step: NDArray[np.bool_]) -> NDArray[np.bool_]:
        others = np.any([fails for step, fails in self._failed.items() if step != name], axis=0)
        beyond = [_beyond(self._values(each), each.value, each) for owner, each in self._limits if owner == name]
        mine = _beyond(self._values(limit), limit.value, limit)
        # Fails its step for this limit alone: exactly one limit is passed, and it is this one.
        alone = mine & (np.sum(beyond, axis=0) == 1)
        return ~others & (~fails_step | alone)

    def _borderline(self, values: NDArray[np.float64], limit: Limit, rows: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """The rows next to the limit on both sides whose fate it alone decides."""
        chosen: list[dict[str, Any]] = []
        ids = self._sample.column("id")
        for kept in (True, False):
            side = np.flatnonzero(rows & (_beyond(values, limit.value, limit) != kept))
            nearest = side[np.argsort(np.abs(values[side] - limit.value), kind="stable")[:BORDERLINE]]
            chosen += [{"id": ids[int(at)].as_py(), "value": float(values[at]), "kept": kept} for at in nearest]
        return chosen


def _beyond(values: NDArray[np.float64], value: float, limit: Limit) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return values < value if limit.side == "min" else values > value

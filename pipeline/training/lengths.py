"""How many tokens rows have, without reading the rows where they are memory-mapped columns."""

from typing import Any

import numpy as np


def by_length(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows, the longest first, and the tokens of each row's longest list (both in int64, one per row)."""
    table = getattr(rows, "data", None)
    if table is None or rows._indices is not None:  # rows that are put together when they are asked for
        lengths = np.fromiter((_longest_list(rows[place]) for place in range(len(rows))), np.int64, len(rows))
    else:
        import pyarrow.compute as pc

        names = [name for name in rows.column_names if "list" in str(table.schema.field(name).type)]
        columns = [pc.list_value_length(table[name]).to_numpy() for name in names]  # pyright: ignore
        lengths = np.max([np.zeros(len(rows)), *columns], axis=0).astype(np.int64)
    return np.argsort(-lengths, kind="stable"), lengths


def _longest_list(row: dict[str, Any]) -> int:
    return max((len(value) for value in row.values() if isinstance(value, list)), default=0)

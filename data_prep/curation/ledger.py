"""The ledger: one line per input row with all the reasons against it, so that every drop can be explained."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_prep.curation.steps import Judgement
from data_prep.rows import write_whole


def dropped_by(judged: Judgement, steps: Iterable[str]) -> str | None:
    """The first step, in their order, that a row fails; None when it is kept."""
    return next((step for step in steps if step in judged.reasons), None)


def ledger_lines(dataset: str, judged: Iterable[Judgement], steps: list[str]) -> list[dict[str, Any]]:
    """The ledger's lines of one data set."""
    return [
        {
            "id": each.row["id"],
            "dataset": dataset,
            "split": each.split,
            "kept": not each.reasons,
            "dropped_by": dropped_by(each, steps),
            "reasons": [f"{step}: {each.reasons[step]}" for step in steps if step in each.reasons],
            "language": each.language,
            "language_score": each.language_score,
            "duplicate_of": each.duplicate_of,
            **{f"words_{part}": each.words.get(part) for part in ("prompt", "completion", "text")},
        }
        for each in judged
    ]


def write_ledger(path: Path, lines: list[Mapping[str, Any]]) -> None:
    """Write the ledger as Parquet, whole or not at all; the same lines give the same bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    words = [(f"words_{part}", pa.int64()) for part in ("prompt", "completion", "text")]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("dataset", pa.string()),
            ("split", pa.string()),
            ("kept", pa.bool_()),
            ("dropped_by", pa.string()),
            ("reasons", pa.list_(pa.string())),
            ("language", pa.string()),
            ("language_score", pa.float64()),
            ("duplicate_of", pa.string()),
            *words,
        ]
    )
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(lines, schema=schema), buffer)
    write_whole(path, buffer.getvalue())

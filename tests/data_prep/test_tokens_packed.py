"""Packed conversations: every one once and whole, its labels unchanged but for the token that nothing may predict."""

import json
from pathlib import Path
from typing import Any

from chat_tokenizers import CHATML, chatml, conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.rows import write_rows
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.masks import IGNORED, encode
from data_prep.tokens.packed_rows import packed_columns
from data_prep.tokens.prepare import PACKED, load_prepared, prepare
from data_prep.tokens.template import render


def documents(columns: dict[str, list[Any]]) -> dict[str, tuple[list[int], list[int]]]:
    """Ids and labels of every conversation in packed columns, by its id."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for ids, labels, lengths, names in zip(*(columns[name] for name in columns), strict=True):
        assert len(ids) == len(labels) == sum(lengths) and len(lengths) == len(names)
        start = 0
        for length, name in zip(lengths, names, strict=True):
            assert name not in found
            found[name] = (ids[start : start + length], labels[start : start + length])
            start += length
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_every_conversation_is_there_once_and_whole(sizes: list[int]) -> None:
    rows = {f"r{at}": [at * 100 + n for n in range(size)] for at, size in enumerate(sizes)}
    batches = [{"id": [name], "input_ids": [ids], "labels": [ids]} for name, ids in rows.items()]
    [columns] = packed_columns(batches, 20, together=True)
    assert documents(columns) == {name: (ids, [IGNORED, *ids[1:]]) for name, ids in rows.items()}
    assert all(len(ids) <= 20 for ids in columns["input_ids"])
    # Best fit leaves no two rows that would fit into one.
    totals = sorted(len(ids) for ids in columns["input_ids"])
    assert len(totals) < 2 or totals[0] + totals[1] > 20
    [apart] = packed_columns(batches, 20, together=False)
    assert apart["lengths"] == [[size] for size in sizes]
    assert documents(apart) == documents(columns)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(conversations(), min_size=2, max_size=12))
def test_prepared_rows_hold_what_each_row_is_alone(rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    folder: Path = tmp_path_factory.mktemp("packed")
    rows = [{**row, "id": f"r{at}"} for at, row in enumerate(rows)]
    write_rows(folder / "data", "train", rows)
    write_rows(folder / "data", "validation", rows[:2])
    metrics = prepare(folder / "data", chatml(CHATML), folder / "out", TokensConfig(max_length=256), form=PACKED)
    train, validation = load_prepared(folder / "out", "train"), load_prepared(folder / "out", "validation")
    assert train.column_names == ["input_ids", "labels", "lengths", "documents"]
    expected = {row["id"]: encode(chatml(CHATML), render(chatml(CHATML), row), 256) for row in rows}
    found = documents({name: list(train[name]) for name in train.column_names})
    assert {name: ids for name, (ids, _) in found.items()} == {name: row.input_ids for name, row in expected.items()}
    assert {name: labels for name, (_, labels) in found.items()} == {name: row.labels for name, row in expected.items()}
    assert validation["documents"][:] == [["r0"], ["r1"]]
    audit = json.loads((folder / "out" / "audit.json").read_text("utf-8"))["splits"]
    assert (audit["train"]["rows"], audit["train"]["packed_rows"]) == (len(rows), len(train))
    assert metrics["packed_rows"] == len(train) + 2
    assert metrics["supervised_tokens"] == sum(
        row.supervised for row in [*expected.values(), *list(expected.values())[:2]]
    )

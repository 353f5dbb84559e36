"""The self-test of one data set, by the curation that it is about."""

import json
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.curate import curate
from data_prep.curation.self_test.run import self_test
from data_prep.curation.self_test.score import Line
from data_prep.errors import DataError
from data_prep.rows import SPLITS, Row, iterate_rows, write_rows, write_whole

MOST_ROWS = 5_000
"""Rows that are drawn from: the first by id, which is a hash, so any of them."""

SEED = 0


def self_test_of(
    name: str, folder: Path, steps: CurationSteps, against: Mapping[str, Path], out: Path
) -> dict[str, Any]:
    """Plant into a copy of the training rows of data set `name`, curate it, and write `self_test.json` to `out`.

    Args:
        name: of the data set.
        folder: its dataset folder.
        steps: the steps that are tested.
        against: name → dataset folder of the evaluations that the steps look for.
        out: gets self_test.json, and nothing that was planted.
    """
    rows = list(islice(iterate_rows(folder, "train"), MOST_ROWS))
    items = {each: [row for split in SPLITS for row in iterate_rows(place, split)] for each, place in against.items()}

    def run(planted: list[Row]) -> Mapping[str, Line]:
        with tempfile.TemporaryDirectory(prefix="provetune-self-test-") as place:
            write_rows(Path(place, "in"), "train", sorted(planted, key=lambda row: row["id"]))
            return _ledger(name, Path(place), steps, dict(against))

    found = self_test(rows, steps, items, SEED, run)
    write_whole(out / "self_test.json", (json.dumps(found, ensure_ascii=False, indent=2) + "\n").encode())
    return found


def _ledger(name: str, place: Path, steps: CurationSteps, against: dict[str, Path]) -> dict[str, Line]:
    from pyarrow import parquet

    try:
        curate({name: place / "in"}, steps, place / "out", against=against)
        parts = [place / "out/ledger.parquet"]
    except DataError:  # every row is dropped: their ledgers are written all the same
        parts = sorted((place / "out/.work/written").glob("*/ledger.parquet"))
        if not parts:
            raise
    return {line["id"]: line for part in parts for line in parquet.read_table(part).to_pylist()}

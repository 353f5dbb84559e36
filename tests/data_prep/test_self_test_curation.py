"""The self-test around the real filter: planted rows stay in their own folder."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyarrow import parquet

from data_prep.curation.config import CurationSteps
from data_prep.curation.curate import curate
from data_prep.curation.self_test.run import self_test
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import folder_of, hosts, questions

STEPS = CurationSteps.model_validate(
    {"near_dedup": {}, "pii": {"action": "mask"}, "decontamination": {}, "language": None}
)


def test_the_filter_finds_what_was_planted() -> None:
    quiz = questions(30, 60)
    rows: list[Row] = [{"id": f"r{n}", "source": "s", "text": text} for n, text in enumerate(hosts(30, 240))]

    def run(planted: list[Row]) -> Mapping[str, Mapping[str, Any]]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mine = folder_of(sorted(planted, key=lambda row: row["id"]), folder / "rows", "train")
            curate({"rows": mine}, STEPS, folder / "out", against={"quiz": folder_of(quiz, folder / "quiz")})
            return {line["id"]: line for line in parquet.read_table(folder / "out" / "ledger.parquet").to_pylist()}

    report = self_test(rows, STEPS, {"quiz": quiz}, 1, run, 80)
    assert report["near_dedup"]["recall"]["value"] >= 0.97 and report["near_dedup"]["wrongly_found"] == 0
    assert report["near_dedup"]["below_threshold"]["below_threshold"] == 0
    assert report["pii"]["recall"]["value"] >= 0.95 and report["pii"]["precision"]["value"] >= 0.95
    assert report["decontamination"]["recall"]["value"] >= 0.95
    assert report["decontamination"]["precision"]["value"] >= 0.97

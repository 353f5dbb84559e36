"""Words and shingles of near-duplicate removal equal a slow reference, character by character."""

import gzip
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_dedup_reference import words_reference

from data_prep.curation.near_dedup.shingles import shingle
from data_prep.curation.near_dedup.words import words_of


def check_shingles(texts: list[str], words: int) -> None:
    """Hashes and reference shingles are in bijection over all texts, in the order of the words."""
    found, hash_of, shingle_of = shingle(texts, words), {}, {}
    for number, text in enumerate(texts):
        hashes = found.hashes[found.offsets[number] : found.offsets[number + 1]].tolist()
        split = words_reference(text)
        runs = [tuple(split[start : start + words]) for start in range(max(len(split) - words + 1, 1))]
        expected = runs if split else [("\0wordless", text.casefold())]
        assert len(hashes) == len(expected), text
        for value, run in zip(hashes, expected, strict=True):
            assert hash_of.setdefault(run, value) == value, run
            assert shingle_of.setdefault(value, run) == run, run


ALPHABET = "aB1 .,\n\0_-éÉß\u0301ñσΣςİıﬁ\u00ad\u200b\u200d\u200f\u202e\ufeff\ufe0f\U000e0100"
ALPHABET += "漢字かなカｶ゛ー々〇ไทยကខ한글אבجدα𝔘😀\ud800\udfff\U0010ffff٣²"


@given(st.lists(st.text(st.sampled_from(ALPHABET), max_size=40), min_size=1, max_size=8), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_shingles_equal_the_reference_on_hard_characters(texts: list[str], words: int):
    check_shingles(texts, words)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_shingles_equal_the_reference_on_any_text(texts: list[str], words: int):
    check_shingles(texts, words)


def test_every_character_separates_joins_or_stands_alone_as_in_the_reference():
    characters = [chr(code) for code in range(0x110000) if code < 0x3500 or 0xA000 <= code < 0xAC10 or code % 251 == 0]
    characters += [chr(code) for code in range(0xD7A0, 0x20010)] + [chr(code) for code in range(0xE0000, 0xE0200)]
    characters = [each for each in characters if unicodedata.name(each, "")] + ["\0", "\ud800", "\U0010ffff"]
    counts = np.diff(words_of([f"x{each}y" for each in characters]).offsets)
    wrong = [
        f"U+{ord(each):04X}"
        for each, count in zip(characters, counts.tolist(), strict=True)
        if len(words_reference(f"x{each}y")) != count
    ]
    assert wrong == []


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 255, 256, 257, 264, 1000])
def test_words_of_any_length_are_told_apart_by_every_byte(length: int):
    word = "a" * length
    others = [word[:at] + "b" + word[at + 1 :] for at in range(length)] + [word + "a", word[1:] + " "]
    hashes = [tuple(words_of([each, "tail"]).hashes.tolist()) for each in [word, *others]]
    assert len(set(hashes)) == len({each.strip() for each in [word, *others]})
    assert words_of([word]).hashes[0] == words_of(["x y", f"({word.upper()})"]).hashes[-1]


def real_texts() -> list[str]:
    folder = Path(os.environ.get("PROVETUNE_EXTRA_DATA", ""))
    if not (folder / "c4_demo.jsonl").is_file():
        pytest.skip("PROVETUNE_EXTRA_DATA is not set")
    texts = [json.loads(line)["text"] for line in (folder / "c4_demo.jsonl").read_text().splitlines()]
    chats = gzip.decompress((folder / "hh_rlhf_harmless_test.jsonl.gz").read_bytes()).decode().splitlines()
    return texts + [json.loads(line)["chosen"] for line in chats[:500]]


def test_shingles_of_real_text_equal_the_reference():
    check_shingles(real_texts(), 5)

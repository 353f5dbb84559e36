"""Words and their places: the same words as near-duplicate removal has, and characters of the text as it was."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.items import dataset_units, options_start, stem
from data_prep.curation.decontamination.text import clean, origins, word_spans, words_in
from data_prep.curation.near_dedup.words import character_class, words_of
from tests.data_prep.near_dedup_reference import words_reference

ODD = "abcXYZ019 .,'’‘ʼ\"&;#\n\t\u00a0ßéÉıİﬁ½²Ⅷ你好かなไทย\u0301\u200b\ufe0f—😀\ud800\x00"
PIECES = ["&amp;", "&quot;", "&#39;", "&nbsp;", "&amp;quot;", "don't", "e\u0301", "\u1100\u1161\u11a8"]
TEXT = st.lists(st.one_of(st.sampled_from(ODD), st.characters(), st.sampled_from(PIECES)), max_size=40).map("".join)


@given(TEXT)
def test_the_words_are_those_that_are_hashed(text: str) -> None:
    spans = word_spans(text)
    assert words_in(text, spans) == words_reference(text)
    assert len(spans[0]) == len(words_of([text]).hashes)


def test_casefolding_never_moves_the_border_of_a_word() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character.casefold() != character:
            assert {character_class(each) for each in character.casefold()} == {character_class(character)}, character


@given(TEXT)
def test_every_cleaned_character_comes_from_a_place_in_the_text(text: str) -> None:
    cleaned, found = clean(text), origins(text)
    assert len(found) == len(cleaned) + 1
    assert (np.diff(found) >= 0).all() and found[0] >= 0 and found[-1] == len(text)


@given(
    st.text("abc de.", max_size=30),
    st.sampled_from(["&quot;", "&#39;", "&amp;amp;", "’", "é", "ﬁ", "½"]),
    st.text("xyz ."),
)
def test_words_stand_where_they_stood(before: str, change: str, after: str) -> None:
    text = f"{before} {change} {after} needle"
    cleaned = clean(text)
    starts, ends = word_spans(cleaned)
    found = origins(text)
    assert text[int(found[starts[-1]]) : int(found[ends[-1] - 1]) + 1] == "needle"


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "don’t stop",
        "DONT  STOP!",
        "don&#39;t stop",
        "don&amp;#39;t\u00a0stop",
        "\u201cdon't\u201d—stop",
        "ｄｏｎ't stop",
    ],
)
def test_what_does_not_count(text: str) -> None:
    cleaned = clean(text)
    assert words_in(cleaned, word_spans(cleaned)) == ["dont", "stop"]


def test_numbers_count() -> None:
    assert words_in("1,000 of 2nd", word_spans("1,000 of 2nd")) == ["1", "000", "of", "2nd"]


def test_composed_and_decomposed_letters_are_one() -> None:
    assert clean("cafe\u0301") == clean(unicodedata.normalize("NFC", "cafe\u0301"))


@pytest.mark.parametrize(
    "options", ["\nA. red\nB. blue", "\n  (A) red\n  (B) blue", " (A) red (B) blue", "\nA) red\nB) blue"]
)
def test_a_question_is_looked_for_without_its_options(options: str) -> None:
    question = "Which colour has the sky on a clear day?"
    found = stem(question + options, 8)
    assert (question + options)[: found.end] == question and found.question == 0
    short = stem("What colour?" + options, 8)
    assert short.end == len("What colour?" + options) and short.question == len("What colour?")


@pytest.mark.parametrize("text", ["Box A. is larger than box B. is", "See A. Smith\nand others", "\nA. one option", ""])
def test_no_options(text: str) -> None:
    assert options_start(text) is None


def test_a_template_is_no_part_of_the_items() -> None:
    rows = [
        {"id": str(n), "prompt": f"Answer briefly.\nQ: {word} {word} {n}\nA:", "completion": f"{word} it is"}
        for n, word in enumerate(["red", "green", "blue", "white", "black", "pink", "grey", "brown", "gold"])
    ]
    prompts = [unit for unit in dataset_units("colours", rows, Decontamination()) if unit.side == "prompt"]
    assert [unit.words for unit in prompts][:2] == [["red", "red", "0"], ["green", "green", "1"]]
    assert prompts[0].text == "red red 0"


def test_an_answer_that_the_prompt_shows_is_not_looked_for() -> None:
    rows = [{"id": "1", "prompt": "Pick one.\nA. the left door\nB. the right door", "completion": "the left door"}]
    assert [unit.side for unit in dataset_units("doors", rows, Decontamination())] == ["prompt"]


@pytest.mark.parametrize(
    "sides, found", [("prompt", {"prompt"}), ("completion", {"completion"}), ("all", {"prompt", "completion"})]
)
def test_only_the_chosen_sides_count(sides: str, found: set[str]) -> None:
    rows = [{"id": "1", "prompt": "one two three", "completion": "four five six"}]
    config = Decontamination.model_validate({"sides": sides})
    assert {unit.side for unit in dataset_units("numbers", rows, config)} == found
    assert [unit.side for unit in dataset_units("texts", [{"id": "1", "text": "one two"}], config)] == ["text"]

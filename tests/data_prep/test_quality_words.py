"""From texts to words on arrays: shapes, the lexicon and its table, lines; against one run or one line at a time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_quality_reference import SPACY, words_of

from data_prep.curation.quality import lexicon as lexicon_module
from data_prep.curation.quality.batch import Batch, tokenise
from data_prep.curation.quality.characters import IS_LINE_BREAK, IS_SPACE, kinds
from data_prep.curation.quality.chunks import LONGEST_RUN, SPECIAL, UNITS, split_chunk
from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.hashing import PADDING, span_hashes
from data_prep.curation.quality.judge import measure
from data_prep.curation.quality.lexicon import STOP_WORDS, Lexicon
from data_prep.curation.quality.lines import newline_segments, split_lines
from data_prep.curation.quality.repetition import equals
from data_prep.curation.quality.table import HashTable

PIECES = sorted(
    {*SPECIAL, *UNITS, *"aAbZsS019.,:;-'\"’()[]{}/@$%°#…_=+*éñ漢\U0001f600", "US$", "ab", "AB", "12", "1.2"}
)


def word_lengths(batch: Batch) -> list[list[int]]:
    """Per document the characters of each word."""
    lengths = batch.lexicon.characters.values.take(batch.places).tolist()
    bounds = batch.document_words.tolist()
    return [lengths[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]


def assert_words_are_split_chunks(texts: list[str], lexicon: Lexicon) -> None:
    batch = tokenise(texts, lexicon)
    words = [words_of(text) for text in texts]
    assert word_lengths(batch) == [[len(word) for word in each] for each in words]
    flat = [word for each in words for word in each]
    hashes = batch.lexicon.hashes.values.take(batch.places).tolist()
    assert len(set(hashes)) == len(set(flat)) == len(set(zip(hashes, flat, strict=True)))
    alphabetic = batch.lexicon.alphabetic.values.take(batch.numbers).sum()
    assert alphabetic == sum(any(map(str.isalpha, word)) for word in flat)


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), max_size=30))
@settings(max_examples=300, deadline=None)
@example(["dog's.", "'s.", "China’s,", "0.0", "(0.0)", "10.1.2.3", "10.qa", "re-worded", "'re", "7am", "7am.", "don't"])
@example(
    [
        "5µg",
        "5км",
        "US$5",
        "5US$",
        "5km",
        "5kmh",
        "5kms",
        "5m/s",
        "aaaa's",
        "AAA.",
        "AA.",
        "A.",
        "aA.",
        "1amu",
        "XD:",
        "xD",
        ":3",
    ]
)
def test_runs_of_one_shape_are_split_alike(runs: list[str]) -> None:
    assert_words_are_split_chunks([" ".join(runs)], Lexicon())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8))
@settings(deadline=None)
def test_any_text_has_split_chunks_words(texts: list[str]) -> None:
    assert_words_are_split_chunks(texts, Lexicon())


def test_every_special_word_and_unit_is_split_as_alone() -> None:
    sides = [(left, right) for left in ("", "(", "5", "x") for right in ("", ".", ",", "x", "’s")]
    assert_words_are_split_chunks(
        [" ".join(f"{left}{word}{right}" for word in PIECES for left, right in sides)], Lexicon()
    )
    assert_words_are_split_chunks([row["text"] for row in SPACY], Lexicon())


@given(st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1))
@example("...(((:)--a.B")
@example("(" * 100 + "x" + "..." + ")" * 100)
def test_words_joined_are_the_run(chunk: str) -> None:
    assert "".join(split_chunk(chunk)) == chunk
    assert all(split_chunk(chunk))


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ("don't", "do n't"), ("don’t", "do n’t"), ('("Hello,"', '( " Hello , "'), ("U.S.", "U.S."), ("NATO.", "NATO ."),
        ("Mr.", "Mr."), ("well-known", "well - known"), ("$5.50", "$ 5.50"), ("10km", "10 km"), ("-5", "-5"),
        ("end.Next", "end . Next"), ("e.g.", "e.g."), ("and/or", "and/or"), ("wait...", "wait ..."), (":)", ":)"),
        ("www.example.com/a-b", "www.example.com/a-b"), ("a@b.com", "a@b.com"), ("fine:)", "fine :)"), ("3-4", "3 - 4"),
        ("🙂🙂", "🙂 🙂"), ("((((", "( ( ( ("), (":(((", ":((("), ("x:((((", "x :((( ("),
    ],
)  # fmt: skip
def test_words_are_spacys(chunk: str, words: str) -> None:
    assert " ".join(split_chunk(chunk)) == words


@given(st.lists(st.text(st.sampled_from("ab \n\r\x0b\x1c\x1f\x85\u2028\u00a0é"))))
def test_lines_are_pythons(texts: list[str]) -> None:
    batch = tokenise(texts, Lexicon())
    for spans, expected in ((split_lines, str.splitlines), (newline_segments, lambda text: text.split("\n"))):
        starts, ends, bounds = spans(batch)
        lines = [batch.text(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        assert [lines[a:b] for a, b in zip(bounds, bounds[1:], strict=False)] == [expected(text) for text in texts]


@pytest.mark.slow
def test_space_and_line_breaks_are_pythons() -> None:
    for code, kind in enumerate(kinds().tolist()):
        assert IS_SPACE[kind] == chr(code).isspace()
        assert IS_LINE_BREAK[kind] == (len(f"a{chr(code)}b".splitlines()) == 2)


@given(st.lists(st.integers(1, 2**64 - 1), unique=True), st.lists(st.integers(1, 2**64 - 1)), st.integers(0, 60))
def test_the_table_numbers_hashes_in_their_order(known: list[int], other: list[int], shift: int) -> None:
    crowded = list(dict.fromkeys(max(value >> shift, 1) for value in known))  # many want one slot
    table = HashTable()
    for part in (crowded[::2], crowded[1::2]):
        table.add(np.array(part, np.uint64))
    expected = {value: number for number, value in enumerate(crowded[::2] + crowded[1::2], 1)}
    asked = crowded + other
    assert table.find(np.array(asked, np.uint64)).tolist() == [expected.get(value, 0) for value in asked]


@given(st.lists(st.integers(0, 6)), st.booleans())
def test_equals_are_found_with_their_places(values: list[int], alike: bool) -> None:
    keys = np.array([value if alike else value << 60 | 1 for value in values], np.uint64)  # alike: in the upper bits
    places, groups = equals(keys)
    found = [part.tolist() for part in np.split(places, groups)[1:]]
    wanted = [[place for place, each in enumerate(values) if each == value] for value in set(values)]
    assert sorted(found) == sorted(each for each in wanted if len(each) > 1)


def test_long_spans_are_hashed_whole() -> None:
    text = np.frombuffer(b"x" * 1999 + b"y" + b"x" * 1000 + bytes(PADDING), np.uint8)
    first, second, third = span_hashes(text, np.array([0, 1000, 2000]), np.array([1000, 2000, 3000]))
    assert first == third != second


def test_a_full_lexicon_is_emptied_and_no_measure_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"{word}{n}" for word in STOP_WORDS) + ". It was [1] so." for n in range(40)]
    expected = measure(texts, Quality())
    monkeypatch.setattr(lexicon_module, "MOST_RUNS", 20)
    lexicon = Lexicon()
    for each in range(len(texts)):
        part = measure(texts[each : each + 1], Quality(), lexicon=lexicon)
        assert same(part, expected.slice(each, 1))
    assert len(lexicon.count) < 60  # at most the cap and one batch


def same(left: Any, right: Any) -> bool:
    """Whether two tables of measures are equal, NaN to NaN."""
    return left.schema == right.schema and all(
        np.array_equal(left[name].to_numpy(), right[name].to_numpy(), equal_nan=True) for name in left.column_names
    )


def test_a_run_that_nobody_writes_stays_whole() -> None:
    longest = "a-" * (LONGEST_RUN // 2)
    assert len(split_chunk(longest)) > LONGEST_RUN // 2
    assert split_chunk(longest + "a") == (longest + "a",)

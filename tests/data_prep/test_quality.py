"""The heuristic quality rules, against datatrove's filters and against the promises of their own."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_quality_reference import FAMILIES, PROSE, datatrove_filters, differing, only, sentences, words_of
from test_quality_words import same

from data_prep.curation.quality.config import C4, FineWeb, GopherQuality, GopherRepetition, Quality
from data_prep.curation.quality.judge import Failure, failures, judge_quality, measure
from data_prep.curation.quality.lexicon import Lexicon
from data_prep.curation.quality.rules import rules
from data_prep.errors import DataError
from data_prep.strict import measured_part

NONE_DIFFERS: dict[str, list[int]] = {family: [] for family in FAMILIES}


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return datatrove_filters(monkeypatch)


def synthetic() -> list[str]:
    menu = "\n".join(f"* Item {n}" for n in range(60))
    return [
        "", " \n ", PROSE, PROSE * 3, "\n\n".join([PROSE] * 4), menu, "word " * 400, "# " * 80 + PROSE,
        "\n".join(f"- {line}" for line in PROSE.split(". ")), "\n".join(["More to come..."] * 20),
        PROSE + "\nLorem ipsum dolor sit amet.", PROSE + "\nfunction f() { return 1; }.", "12 34 56 78. " * 40,
        PROSE.replace("\n", "\r\n"), PROSE.replace(". ", ".\u2028"), PROSE.replace(".", "[1]."), "\n" + PROSE + "\n",
        "All of it is so.[1]\n" * 9,
        "\n\n\n" + PROSE + "\n\n\n" + PROSE + "\n \n", PROSE.replace(" ", "\u00a0"), "a b c d e " * 30 + PROSE,
        "Use cookies to go on, please.\n" + PROSE, "JavaScript is off in this browser.\n" + PROSE, "\n" * 9, "\r",
        "Our Privacy  Policy is new.\n" + PROSE, "Our Privacy Policy is new.\n" * 4, "Use coo\u212aies or not.\n" * 5,
        "one two three four five six one two three four five six seven. " * 3, "some thing something some thing " * 9,
        "a bc ab c a bc ab c d e f g h i j ab c a bc " * 5, PROSE.replace("the", "the…"), "…\n" * 30 + PROSE,
    ]  # fmt: skip


def test_decisions_equal_datatroves_on_synthetic_documents(peer: dict[str, Any]) -> None:
    assert differing(synthetic(), peer) == NONE_DIFFERS


ODD = st.text(st.sampled_from("ab. .\n\n\r\"'{#-…•\u2028\x1c[1]é\U0001f600"), max_size=80)
FEW_WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "a.", "b\n", "aba", "bb", "c"]), max_size=120).map(" ".join)


@given(st.lists(ODD | FEW_WORDS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_decisions_equal_datatroves_on_random_texts(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        differ = differing([PROSE + text for text in texts] + texts, datatrove_filters(patch))
    differ["gopher_repetition"] = []  # of such words many n-grams spell the same; the next test compares their words
    assert differ == NONE_DIFFERS


def repetitions(words: list[str], n: int) -> int:
    """How many n-grams of words repeat one before, read from the left and passed over when counted."""
    place, seen, count = 0, set[tuple[str, ...]](), 0
    while place + n <= len(words):
        gram = tuple(words[place : place + n])
        count, place = (count + 1, place + n) if gram in seen else (count, place + 1)
        seen.add(gram)
    return count


def test_ngrams_of_other_words_that_spell_the_same_are_no_repetition() -> None:
    # The one rule that differs from datatrove's: it takes "a bc d e f" for a repetition of "ab c d e f".
    found = measure(["a bc d e f ab c d e f"], only("gopher_repetition")).to_pylist()[0]
    assert found["quality_duplicate_5gram"] == 0
    assert measure(["a bc d e f a bc d e f"], only("gopher_repetition")).to_pylist()[0]["quality_duplicate_5gram"] > 0


@given(st.lists(ODD | FEW_WORDS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_repeated_ngrams_are_datatroves(texts: list[str]) -> None:
    assert_ngrams_are_datatroves(texts)


def test_ngrams_that_are_passed_over_are_no_repetition() -> None:
    # Of two words nearly all n-grams stand many times, the first of them often inside one that was counted.
    chance = np.random.default_rng(0)
    assert_ngrams_are_datatroves([" ".join(chance.choice(["so", "then"], size)) for size in range(0, 300, 3)])


def assert_ngrams_are_datatroves(texts: list[str]) -> None:
    module = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    found = measure(texts, only("gopher_repetition")).to_pylist()
    for text, row in zip(texts, found, strict=True):
        words = words_of(text)
        for n in range(2, 11):
            name = f"quality_top_{n}gram" if n < 5 else f"quality_duplicate_{n}gram"
            grams = module.get_n_grams(words, n)
            if n >= 5:
                ended = [f"{word}\0" for word in words]  # so that words do not melt into each other
                count = module.find_all_duplicate(ended, n)
                count -= n * repetitions(ended, n)
            else:
                count = module.find_top_duplicate(grams) if grams else 0
            assert math.isnan(row[name]) if not text else row[name] == pytest.approx(count / len(text))


SENTENCE_PIECES = [
    "Yes",
    "no",
    ".",
    "!",
    '."',
    "?)",
    " ",
    " ",
    "  ",
    "\t",
    "-",
    "(",
    "“",
    "...",
    "1.",
    "。",
    "Dr.",
    "a.B",
]


@given(st.lists(st.sampled_from(SENTENCE_PIECES), max_size=14).map("".join))
@settings(deadline=None)
def test_sentences_are_counted_as_word_by_word(line: str) -> None:
    every_line = C4(terminal_punctuation=False, min_words_per_line=None, remove_citations=False)
    found = measure([f"{line}\nNext one. And more"], only("c4", c4=every_line))["quality_c4_sentences"].to_pylist()
    assert found == [len(sentences(line.strip())) + 2 if line else 3]


def test_all_failing_rules_are_told_with_value_and_limit() -> None:
    failed = {failure.rule: failure for failure in judge_quality(["buy now " * 20 + "{"], Quality())[0]}
    assert failed["gopher_min_words"].value == 40 and failed["gopher_min_words"].limit == 50
    assert failed["gopher_stop_words"].value == 0
    assert failed["gopher_top_2gram"].value == pytest.approx(7 * 20 / 161)
    assert {"c4_sentences", "fineweb_punctuated_lines", "gopher_duplicate_5gram"} <= failed.keys()
    assert judge_quality([PROSE + "\n" + PROSE.replace("e", "o")], only("gopher_quality")) == [[]]


def test_a_failure_reads_as_value_and_bound() -> None:
    assert str(Failure("gopher_stop_words", 1.0, 2, "min")) == "gopher_stop_words: 1, at least 2"
    assert str(Failure("gopher_top_2gram", 0.2000004, 0.2, "max")) == "gopher_top_2gram: 0.2000004, at most 0.2"


def test_new_limits_need_no_new_measurement() -> None:
    table = measure(synthetic(), Quality())
    strict = Quality(
        gopher_quality=GopherQuality(min_words=100),
        c4=C4(no_curly_bracket=False, no_lorem_ipsum=False, min_sentences=9),
        fineweb=FineWeb(max_short_lines=0.1, unpunctuated_passes=True),
    )
    assert measured_part(strict) == measured_part(Quality())
    assert failures(table, strict) == judge_quality(synthetic(), strict) != failures(table, Quality())
    assert measured_part(Quality(c4=C4(no_policy=False))) != measured_part(Quality())
    with pytest.raises(DataError, match="rule gopher_min_words: the table has no column quality_words; measure the te"):
        failures(measure(["a"], only("fineweb")), Quality())


def test_measures_do_not_depend_on_batches_or_on_what_the_lexicon_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon = Lexicon()
    together = measure(synthetic(), Quality(), lexicon=lexicon)
    assert same(
        measure(synthetic()[::-1], Quality(), lexicon=lexicon).take(list(range(len(synthetic())))[::-1]), together
    )
    for row, text in enumerate(synthetic()):
        assert same(measure([text], Quality()), together.slice(row, 1)), row
    monkeypatch.setattr("data_prep.curation.quality.judge.BATCH_CHARACTERS", 500)
    assert same(measure(synthetic(), Quality()), together)


def test_no_texts_and_switched_off_families() -> None:
    assert judge_quality([], Quality()) == []
    assert measure([], Quality()).num_rows == 0
    nothing = Quality(**dict.fromkeys(FAMILIES))
    assert rules(nothing) == [] and judge_quality(["a", ""], nothing) == [[], []]
    without = rules(Quality(gopher_quality=GopherQuality(min_words=None)))
    assert "gopher_min_words" not in {rule.rule for rule in without}


def test_options_of_c4_change_what_counts() -> None:
    text = "no full stop here\n" * 6
    assert judge_quality([text], only("c4"))[0][0].rule == "c4_sentences"
    assert judge_quality([text], only("c4", c4=C4(terminal_punctuation=False))) == [[]]


def test_limits_on_ngrams_that_are_not_measured_are_refused() -> None:
    with pytest.raises(ValidationError, match="n-grams of 11 words are not measured; allowed are 5 to 10"):
        GopherRepetition(max_duplicate_ngram={11: 0.1})

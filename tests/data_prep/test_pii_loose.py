"""Findings without exact borders: what rules see of them, how they join, and how they are replaced."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.curation.pii.agreement import agreement
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii
from data_prep.curation.pii.kinds import LOOSE_KINDS
from data_prep.curation.pii.pseudonyms import Pseudonyms
from data_prep.curation.pii.scrub import Scrubber
from data_prep.curation.pii.spans import JOIN, Span, joins, resolve

CONFIG = Pii.model_validate(
    {"kinds": ["name", "address", "organization", "birth_date", "url", "email"], "action": "mask"}
)
FAKES = Pseudonyms(b"0123456789abcdef0123456789abcdef", [])


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_pii(text, CONFIG)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("I saw Mrs. Ana de Souza there", "name", "Mrs. Ana de Souza"),
        ("Dr. J. R. Smith's dog", "name", "Dr. J. R. Smith"),
        ("ask Mr Jones and go", "name", "Mr Jones"),
        ("lives at 12 Old Mill Lane, which", "address", "12 Old Mill Lane"),
        ("Via Pasquale Scura 127 is", "address", "Via Pasquale Scura 127"),
        ("in der Goethestraße 12a.", "address", "Goethestraße 12a"),
        ("to P.O. Box 9975 please", "address", "P.O. Box 9975"),
        ("to PSC 2221, Box 9693\nAPO AA 76936", "address", "PSC 2221, Box 9693\nAPO AA 76936"),
        ("at SW1A 1AA now", "address", "SW1A 1AA"),
        ("4 High Street, Apt. 12", "address", "4 High Street, Apt. 12"),
        ("works for Emsley & Collins Ltd now", "organization", "Emsley & Collins Ltd"),
        ("Anna of Barnes & Noble, Inc. said", "organization", "Barnes & Noble, Inc."),
        ("In The Acme Works GmbH.", "organization", "Acme Works GmbH"),
        ("was born on 3 May 1982 in", "birth_date", "3 May 1982"),
        ("DOB: 03/29/1982", "birth_date", "03/29/1982"),
        ("see https://ana-lopez.blog/me.", "url", "https://ana-lopez.blog/me"),
    ],
)
def test_rules_find_what_its_form_gives_away(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "In 1994 the Court ruled; 3 Way, Suite and Room",
        "on 3 May 1982 the war ended, 03/29/1982",
        "the company limited its trust in fund and the Trust",
        "Mr and Mrs were there, Dr. no",
        "http:// and www. and https://x",
    ],
)
def test_rules_leave_what_is_nobody_s(text: str) -> None:
    assert found(text) == []


def test_nothing_of_it_is_looked_for_by_default() -> None:
    assert find_pii("Mr. Jones of Emsley & Collins Ltd, 12 Old Mill Lane, born 3 May 1982, https://a.b/c", Pii()) == []


def test_neighbours_join_only_when_both_count() -> None:
    text = "Ana Lopez, 12 Main Street,\n Springfield 12345"
    parts = [Span(0, 3, "name", 0.9), Span(4, 9, "name", 0.6), Span(11, 25, "address", 0.8), Span(28, 39, "place", 0.5)]
    parts += [Span(40, 45, "address", 0.7)]
    raw = [*parts, *joins(parts, text)]
    assert [(span.start, span.end, span.kind) for span in resolve(raw)] == [(0, 9, "name"), (11, 45, "address")]
    sure = [span for span in raw if span.score > 0.6]
    assert [(span.start, span.end, span.kind) for span in resolve(sure)] == [
        (0, 3, "name"),
        (11, 25, "address"),
        (40, 45, "address"),
    ]
    assert all(span.rule == JOIN for span in raw[5:])
    apart = [Span(0, 3, "name", 0.9), Span(5, 8, "name", 0.9), Span(12, 15, "place", 0.9), Span(17, 20, "place", 0.9)]
    assert resolve([*apart, *joins(apart, "Ana; Bob of Rom; Ulm")]) == apart


loose = st.builds(
    lambda start, length, kind, score: Span(start, start + length, kind, score),
    st.integers(0, 40),
    st.integers(1, 12),
    st.sampled_from(["name", "place", "email", "card"]),
    st.sampled_from([0.5, 0.7, 0.9]),
)


@given(st.lists(loose, max_size=12))
def test_joining_loses_no_character_and_exact_findings_keep_theirs(spans: list[Span]) -> None:
    kept = resolve(spans)
    assert all(before.end <= after.start for before, after in zip(kept, kept[1:], strict=False))
    exact = [span for span in spans if span.kind in ("email", "card")]
    assert [span for span in kept if span.kind in ("email", "card")] == resolve(exact)
    covered = {place for span in kept for place in range(span.start, span.end)}
    for span in spans:
        missing = set(range(span.start, span.end)) - covered
        # Single characters between two others are no finding.
        assert span.kind in ("email", "card") or all({place - 1, place + 1} - missing for place in missing)


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        ("name", "Maria Gonzalez", r"[A-Z][a-z]+ [A-Z][a-z]+"),
        ("name", "Dr. J. R. O'Neill-Smith Jr.", r"Dr\. [A-Z]\. [A-Z]\. [A-Z]'[A-Z][a-z]+-[A-Z][a-z]+ Jr\."),
        ("name", "MARIA DE LA CRUZ", r"[A-Z]+ DE LA [A-Z]+"),
        ("name", "maria's", r"[a-z]+'s"),
        ("place", "New York", r"[A-Z][a-z]+ [A-Z][a-z]+"),
        ("address", "12 Old Mill Lane, Apt. 3", r"\d\d [A-Z][a-z]+ [A-Z][a-z]+ Lane, Apt\. \d"),
        ("organization", "Emsley & Collins Ltd", r"[A-Z][a-z]+ & [A-Z][a-z]+ Ltd"),
        ("birth_date", "03/29/1982", r"(?:0[4-9]|1[0-2])/(?:0[4-9]|1[0-2])/(?:19[4-9]\d|200[0-5])"),
        ("birth_date", "3rd of May 1982", r"[4-9]th of [A-Z][a-z]{2} (?:19[4-9]\d|200[0-5])"),
        ("url", "https://www.bob.blog/a1", r"https://www\.[a-z]+\.example\.(?:com|net|org)/[a-z]\d"),
        ("group", "Germans", r"[A-Z][a-z]+s"),
        ("number", "yo-0047868", r"[a-z]{2}-\d{7}"),
    ],
)
def test_pseudonyms_keep_the_form(kind: str, value: str, form: str) -> None:
    pseudonym = FAKES.replace(kind, "", value)
    assert re.fullmatch(form, pseudonym) and pseudonym != value
    other = Pseudonyms(b"another key, as long as the other", [])
    assert FAKES.replace(kind, "", value) == pseudonym != other.replace(kind, "", value)


def test_a_person_keeps_one_name_however_it_is_written() -> None:
    first, last = FAKES.replace("name", "", "Maria Gonzalez").split(" ")
    assert FAKES.replace("name", "rampart", "Maria") == first
    assert FAKES.replace("name", "title", "Dr. Gonzalez") == f"Dr. {last}"
    assert FAKES.replace("name", "", "MARIA GONZALEZ") == f"{first} {last}".upper()
    assert len({FAKES.replace("name", "", f"Person{'abcdefghij'[n % 10] * (n + 1)}") for n in range(60)}) > 50


@given(st.text(min_size=1, max_size=40), st.sampled_from(LOOSE_KINDS))
def test_any_value_has_a_pseudonym(value: str, kind: str) -> None:
    pseudonym = FAKES.replace(kind, "", value)
    words = re.findall(r"[^\W_]{3,}", value)
    if words and kind in ("name", "place"):
        assert pseudonym != value and not set(words) - {"del", "der", "van", "von"} <= set(
            re.findall(r"\w+", pseudonym)
        )


def test_what_tells_of_nobody_stays() -> None:
    assert FAKES.replace("address", "", "Street") == "Street"
    assert FAKES.replace("name", "", "Dr.") == "Dr."


def test_masks_of_loose_kinds() -> None:
    masked = Scrubber(CONFIG).apply(
        {"id": "1", "text": "Mr. Bo Li of Emsley & Collins Ltd, 12 Old Mill Lane: bo@web.de"}
    )
    assert masked.row == {"id": "1", "text": "[NAME] of [ORGANIZATION], [ADDRESS]: [EMAIL]"}


def test_agreement_counts_characters_once_whatever_the_label() -> None:
    perfect = agreement([[(0, 4)]], [[(0, 2), (2, 4), (1, 3)]])
    assert (perfect.precision, perfect.recall, perfect.f2) == (1.0, 1.0, 1.0)
    # 3 right of 4 found, 3 found of 6 labelled: F2 = 5 · 0.75 · 0.5 / (4 · 0.75 + 0.5).
    partial = agreement([[(0, 4)], [(0, 2)]], [[(1, 5)], []])
    assert (partial.precision, partial.recall) == (0.75, 0.5)
    assert partial.f2 == pytest.approx(1.875 / 3.5)
    assert agreement([[]], [[]]) == (1.0, 1.0)
    assert agreement([[(0, 1)]], [[(5, 6)]]).f2 == 0.0

"""Personal data as a step: measured with places and without text, decided under any threshold, scrubbed as measured."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii
from data_prep.curation.pii.key import VARIABLE, pii_identity
from data_prep.curation.pii.kinds import KINDS
from data_prep.curation.pii.pseudonyms import Pseudonyms
from data_prep.curation.pii.scrub import Scrubber
from data_prep.curation.pii.step import SPANS, PiiStep, counted, make_scrub, make_scrubber, scrub
from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.strict import measured_part

KEY = b"0123456789abcdef0123456789abcdef"
MAIL, PHONE, CARD, SSN = "bob.miller@web.de", "(212) 736-5000", "4111111111111111", "123-45-6789"
CALL = {"function": {"name": "pay", "arguments": json.dumps({"phone": "2127365000", MAIL: 4111111111111111, "n": 3})}}
PREFERENCE: Row = {
    "id": "p",
    "prompt": [{"role": "user", "content": f"Write to {MAIL}."}, {"role": "assistant", "content": "Which name?"}],
    "chosen": [{"role": "assistant", "content": f"To {MAIL}: call {PHONE}"}],
    "rejected": [{"role": "assistant", "content": f"{MAIL}, {MAIL}, {PHONE}"}],
}
ROWS: list[Row] = [
    {"id": "t", "text": f"{MAIL} and card {CARD}, mail {MAIL}"},
    {"id": "n", "text": "nothing here, not even 1.2.3"},
    {"id": "c", "messages": [{"role": "user", "content": f"SSN {SSN}"}, {"role": "assistant", "tool_calls": [CALL]}]},
    PREFERENCE,
    {"id": "q", "prompt": "", "completion": "a\\nb"},
]
ACTIONS = ["drop", "mask", "pseudonym"]
FAKES = Pseudonyms(KEY, Pii().phone_regions)


def config(**fields: Any) -> Pii:
    return Pii.model_validate({"action": "mask", **fields})


def measured(rows: list[Row], asked: Pii) -> pa.Table:
    step = PiiStep(asked)
    values = step.measure(rows)
    assert list(values) == list(step.columns())
    return pa.table({name: pa.array(values[name], kind) for name, kind in step.columns().items()})


def spans_of(row: Row, asked: Pii) -> list[Mapping[str, Any]]:
    return measured([row], asked)[SPANS].to_pylist()[0]


def test_every_kind_is_counted_in_every_row() -> None:
    table = measured(ROWS, config())
    assert set(table.column_names) == {SPANS, *(f"pii_{kind}" for kind in KINDS)}
    counts = {kind: table[f"pii_{kind}"].to_pylist() for kind in KINDS}
    expected = {"email": [2, 0, 1, 4, 0], "card": [1, 0, 1, 0, 0], "national_id": [0, 0, 1, 0, 0]}
    assert {kind: each for kind, each in counts.items() if any(each)} == {**expected, "phone": [0, 0, 1, 2, 0]}
    assert all(len(each) == len(ROWS) and None not in each for each in counts.values())


def test_places_lead_to_the_findings_and_hold_no_text() -> None:
    table = measured(ROWS, config(kinds=list(KINDS)))
    found = table[SPANS].to_pylist()
    first = found[0][0]
    assert (first["part"], first["start"], first["end"], first["kind"]) == ("text", 0, len(MAIL), "email")
    paths = {span["part"] for span in found[2]}
    assert paths == {
        "messages/0/content",
        "messages/1/tool_calls/0/function/arguments/#0",
        "messages/1/tool_calls/0/function/arguments/#1~",
        "messages/1/tool_calls/0/function/arguments/#1",
    }
    assert {span["part"] for span in found[3]} == {"prompt/0/content", "chosen/0/content", "rejected/0/content"}
    written = json.dumps(table.to_pylist())
    for secret in (MAIL, "bob", "miller", "web.de", "736", "5000", "4111", "123-45", "6789"):
        assert secret not in written, secret


def test_the_ledger_never_holds_what_was_found_whatever_the_row_is_made_of() -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8"
    row = {"id": "1", "tools": [{secret: {MAIL: [{secret: MAIL}]}, "type": MAIL}], "messages": [{MAIL: secret}]}
    spans = spans_of(row, config(kinds=list(KINDS)))
    assert len(spans) == 6
    assert secret not in str(spans) and MAIL not in str(spans)
    allowed = set("abcdefghijklmnopqrstuvwxyz_/#~0123456789")
    assert all(set(span["part"]) <= allowed and len(span["part"]) < 60 for span in spans)


@pytest.mark.parametrize(
    "limits", [{}, {"min_score": 0.0}, {"min_score": 0.9}, {"thresholds": {"card": 0.99, "email": 1.0}}]
)
@pytest.mark.parametrize("action", ["drop", "mask"])
def test_other_thresholds_need_no_other_measures(limits: dict[str, Any], action: str) -> None:
    """Spans that were measured under one configuration decide under another as if they were measured under that one."""
    text = (
        f"card {CARD}, 1234567890123452 {MAIL} {SSN} GB82WEST12345698765432 12345678Z https://a:b@web.de/ call {PHONE}"
    )
    row = {"id": "1", "text": text}
    spans = spans_of(row, config(min_score=0.97, action="pseudonym"))
    asked = config(action=action, **limits)
    assert measured_part(asked) == measured_part(config(min_score=0.97, action="pseudonym"))
    fresh = Scrubber(asked).apply(row)
    done, counts = scrub(row, spans, asked, Scrubber(asked))
    expected = Counter(span.kind for span in find_pii(text, asked))
    assert dict(expected) == counted(spans, asked)
    assert (done, counts) == (fresh.row, fresh.counts)


def test_only_dropping_gives_reasons() -> None:
    table = measured(ROWS, config())
    reasons = PiiStep(config(action="drop")).reasons(table)
    assert reasons == [
        ["email 2", "card 1"],
        [],
        ["email 1", "phone 1", "card 1", "national_id 1"],
        ["email 4", "phone 2"],
        [],
    ]
    assert PiiStep(config(action="drop", thresholds={"email": 1.0})).reasons(table)[0] == ["card 1"]
    assert PiiStep(config()).reasons(table) == [[]] * len(ROWS)
    assert PiiStep(config(action="drop")).limits() == []


@pytest.mark.parametrize("action", ACTIONS)
def test_scrubbing_by_measures_is_scrubbing_anew(action: str) -> None:
    asked = config(action=action)
    scrubber = Scrubber(asked, FAKES)
    for row in ROWS:
        before = json.dumps(row)
        done, counts = scrub(row, spans_of(row, asked), asked, scrubber)
        fresh = scrubber.apply(row)
        assert (done, counts) == (fresh.row, fresh.counts)
        assert json.dumps(row) == before
        if not counts:
            assert done is row


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([MAIL, PHONE, CARD, SSN, "phone", "card", "x", "\0", "\u200b", "שלום"]), max_size=8))
def test_any_cut_into_shards_measures_the_same(words: list[str]) -> None:
    rows: list[Row] = [{"id": str(number), "text": " ".join(words[number:])} for number in range(len(words) + 1)]
    together = PiiStep(config()).measure(rows)
    alone = [PiiStep(config()).measure([row]) for row in rows]
    assert {name: [each[name][0] for each in alone] for name in together} == together


def test_both_sides_of_a_preference_pair_and_all_turns_get_the_same_pseudonym(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY.decode())
    asked = config(action="pseudonym")
    clean = make_scrub(asked)(PREFERENCE, spans_of(PREFERENCE, asked))
    fake = clean["prompt"][0]["content"].removeprefix("Write to ").rstrip(".")
    assert "@" in fake and "bob" not in json.dumps(clean) and "736" not in json.dumps(clean)
    chosen, rejected = clean["chosen"][0]["content"], clean["rejected"][0]["content"]
    assert chosen.startswith(f"To {fake}: call (") and rejected.startswith(f"{fake}, {fake}, (")
    assert chosen[-14:] == rejected[-14:]
    assert clean["prompt"][1] == PREFERENCE["prompt"][1]
    assert make_scrub(asked)(PREFERENCE) == clean


def test_another_row_than_the_measured_one_is_an_error() -> None:
    spans = spans_of({"id": "1", "text": f"a long text before {MAIL}"}, config())
    with pytest.raises(DataError, match="^row 1: not the row whose personal data was measured; measure it again$"):
        scrub({"id": "1", "text": "short"}, spans, config(), Scrubber(config()))


def test_only_pseudonyms_need_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert pii_identity(config(action="mask")) == pii_identity(config(action="pseudonym")) == {}
    for needs_key in (make_scrub, make_scrubber):
        with pytest.raises(DataError, match=r"^PROVETUNE_PSEUDONYM_KEY: not set, but .*; make one with python -c "):
            needs_key(config(action="pseudonym"))


def test_deep_nesting_is_an_error_that_names_the_row() -> None:
    deep: Any = MAIL
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(DataError, match="^row deep: nested too deeply to look for personal data; remove it$"):
        PiiStep(config()).measure([{"id": "deep", "tools": deep}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ner": []}, "names no model; use presidio, rampart"),
        ({"thresholds": {"card": 2.0}}, "card: 2.0 is no score; use a number from 0 to 1"),
        ({"kinds": ["e-mail"]}, "Input should be 'email'"),
        ({"ner": "bert"}, "Input should be 'presidio' or 'rampart'"),
    ],
)
def test_configurations_that_would_find_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)

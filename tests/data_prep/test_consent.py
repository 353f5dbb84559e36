"""Licences and opt-outs decide."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.curation.consent.config import Consent
from data_prep.curation.consent.licences import is_allowed
from data_prep.curation.consent.step import ConsentStep, never_carried


def reasons(settings: dict, metas: list[dict | None]) -> list[list[str]]:
    step = ConsentStep(Consent.model_validate(settings))
    rows = [{"id": str(at), "text": "t", **({} if meta is None else {"meta": meta})} for at, meta in enumerate(metas)]
    measured = step.measure(rows)
    assert set(measured) == set(step.columns())
    table = pa.table({name: pa.array(measured[name], kind) for name, kind in step.columns().items()})
    assert step.limits() == []
    return step.reasons(table)


def test_only_allowed_licences_pass() -> None:
    metas = [{"license": name} for name in ("MIT", "apache-2.0", "CC-BY-4.0", "GPL-3.0-only", None)] + [{}, None]
    assert reasons({"license": {"allow": ["mit", "Apache-2.0", "cc-by-*"]}}, metas) == [
        [],
        [],
        [],
        ["license GPL-3.0-only, allowed mit, Apache-2.0, cc-by-*"],
        ["license missing"],
        ["license missing"],
        ["license missing"],
    ]


def test_denied_licences_fail_and_a_missing_one_may_pass() -> None:
    rule = {"license": {"field": "licence", "deny": ["*-nc-*"], "missing": "keep"}}
    metas = [{"licence": "CC-BY-NC-4.0"}, {"licence": ["MIT", "cc-by-nc-sa-4.0"]}, {"licence": ["MIT"]}, {}]
    assert reasons(rule, metas) == [
        ["licence CC-BY-NC-4.0, denied *-nc-*"],
        ["licence cc-by-nc-sa-4.0, denied *-nc-*"],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("mit and apache-2.0", True),
        ("GPL-3.0-only AND (MIT OR Apache-2.0)", False),
        ("GPL-3.0-only OR MIT AND Apache-2.0", True),
        ("(GPL-3.0-only OR MIT) AND Apache-2.0", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0 OR LGPL-2.1", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT AND ) (", False),
        ("", False),
    ],
)
def test_expressions_are_understood(licence: str, allowed: bool) -> None:
    assert is_allowed(licence, ["MIT", "Apache-2.0"], []) is allowed


@given(st.text("AB() orandORAND", max_size=40))
def test_any_text_has_an_answer(licence: str) -> None:
    assert is_allowed(licence, ["*"], [])
    assert not is_allowed(licence, [], ["*"])


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("noai", "noai"),
        ("index, NoAI, follow", "noai"),
        ("googlebot: noindex", "noindex"),
        ({"opt-out": True}, "opt-out"),
        ({"rules": {"noai": 1}}, "noai"),
        (["follow", "noindex"], "noindex"),
        (True, "true"),
        (1, "1"),
        ("opt-out", "opt-out"),
    ],
)
def test_an_opt_out_drops_and_says_by_what(value: object, word: str) -> None:
    [[reason]] = reasons({"opt_out": {}}, [{"robots": value}])
    assert reason.startswith("robots ") and reason.endswith(f", opts out by {word}")


@pytest.mark.parametrize("value", ["index, follow", "all", False, 0, {"opt-out": False}, [], "", None, "noaim"])
def test_other_values_pass(value: object) -> None:
    assert reasons({"opt_out": {}}, [{"robots": value}]) == [[]]


def test_several_fields_and_missing_ones_are_named() -> None:
    settings = {"license": {"allow": ["mit"]}, "opt_out": {"fields": ["robots", "tdm"], "missing": "drop"}}
    assert reasons(settings, [{"license": "gpl", "robots": "noai"}]) == [
        ["license gpl, allowed mit", "robots noai, opts out by noai", "tdm missing"]
    ]
    assert never_carried(Consent.model_validate(settings), ["license", "url"]) == ["robots", "tdm"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "neither license nor opt_out is set; set one"),
        ({"license": {"missing": "keep"}}, "license allows everything; set allow, deny, or missing: drop"),
        ({"license": {"field": "robots"}, "opt_out": {}}, "the field robots is asked about twice"),
    ],
)
def test_a_step_without_an_effect_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Consent.model_validate(settings)

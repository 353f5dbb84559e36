"""Numbers, sizes, times and word differences as the reader sees them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import formatting
from pipeline.report.diff import word_diff


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (134515008, "134,515,008"),
        (0.96874, "0.9687"),
        (-0.106, "−0.106"),
        (0.00002, "2e−5"),
        (2e-4, "0.0002"),
        (293.24, "293.2"),
        (0.0, "0"),
        (None, "–"),
        (True, "–"),
        (math.nan, "not a finite number"),
        (-math.inf, "not a finite number"),
        (1e300, "1e300"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert formatting.number(value) == text


def test_decimals_follow_the_width_of_the_interval() -> None:
    assert formatting.decimals_for(-0.125, -0.087) == 3
    assert formatting.decimals_for(-23.9, -14.8) == 1
    assert formatting.decimals_for(0.0, 1500.0) == 0
    assert formatting.decimals_for(1.0, 1.0) == formatting.decimals_for(None, 1.0) == 3


@pytest.mark.parametrize(("value", "text"), [(0.05, "+0.05"), (-0.05, "−0.05"), (-0.0001, "0.00"), (0.0001, "0.00")])
def test_signed(value: float, text: str) -> None:
    assert formatting.signed(value, 2) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.12, "0.12 s"), (59.4, "59 s"), (301.2, "5 min 1 s"), (7384, "2 h 3 min"), (200000, "2 d 7 h"), (None, "–")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_sizes_shares_p_values_and_dates() -> None:
    assert formatting.size(1406593597) == "1.31 GiB" and formatting.size(512) == "512 B"
    assert formatting.percent(0.943) == "94.3 %" and formatting.percent(0.95) == "95 %"
    assert (formatting.p_value(0.0001), formatting.p_value(0.0634), formatting.p_value(0.78)) == (
        "< 0.001",
        "0.063",
        "0.78",
    )
    assert formatting.date("2026-11-21T04:15:00+01:00") == "21 November 2026, 03:15 UTC"
    assert formatting.date("yesterday") == "yesterday"
    assert formatting.count(134515008) == "134.5 M"


@given(st.one_of(st.floats(), st.integers(-(10**12), 10**12)))
def test_every_number_has_a_text_without_an_ascii_minus(value: float) -> None:
    texts = [
        formatting.number(value),
        formatting.signed(value, 3),
        formatting.percent(value),
        formatting.duration(value),
    ]
    assert all(text and "-" not in text for text in texts)


@given(st.text(alphabet="ab \n", max_size=30), st.text(alphabet="ab \n", max_size=30))
def test_the_difference_gives_both_texts_back(base: str, tuned: str) -> None:
    left, right = word_diff(base, tuned)
    assert "".join(span.text for span in left) == base
    assert "".join(span.text for span in right) == tuned


def test_only_the_changed_words_are_marked() -> None:
    left, right = word_diff("the ferry was towed", "the ferry has sunk")
    assert [span.text for span in left if span.unique] == ["was towed"]
    assert [span.text for span in right if span.unique] == ["has sunk"]

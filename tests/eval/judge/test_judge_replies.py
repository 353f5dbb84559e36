"""How a written verdict is read: what counts, and what is a failure rather than a guess."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judge.prompts import PAIR_LABELS
from eval.judge.replies import read_reply

POINTS = tuple(str(point) for point in range(1, 11))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"rationale": "short", "verdict": "A"}', "A"),
        ('{"verdict": "TIE"}', "tie"),
        ('```json\n{"rationale": "x {not json}", "verdict": "B"}\n```', "B"),
        ('<think>{"verdict": "A"} or B?</think>\n{"rationale": "r", "verdict": "B"}', "B"),
        ("Both are fine, but one is longer.\n\nVerdict: B", "B"),
        ("**Verdict:** **A**", "A"),
        ("My final verdict is [[tie]].", "tie"),
        ("[[A]]", "A"),
        ("A", "A"),
        ('"B".', "B"),
        ("Answer A", "A"),
        ('{"rationale": "it was cut here, "verdict": "A"}', "A"),
        ('{"rationale": "a {brace and {\\"nested\\": 1}", "verdict": "A", "more": [1]}', "A"),
        ('{"verdict": "A"}\n{"verdict": "A"}', "A"),
    ],
)
def test_verdicts_that_are_read(text: str, label: str) -> None:
    assert read_reply(text, PAIR_LABELS).label == label


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "empty reply"),
        ("<think>A</think>", "empty reply"),
        ("I cannot compare these answers.", "no verdict in the reply"),
        ("The verdict is a draw between two good answers", "no verdict in the reply"),
        ('{"rationale": "...", "verdict": "A" | "B" | "tie"}', "no verdict in the reply"),
        ("Verdict: A or B", "no verdict in the reply"),
        ('{"verdict": "C"}', "no verdict in the reply"),
        ('{"verdict": true}', "no verdict in the reply"),
        ('{"verdict": ["A"]}', "no verdict in the reply"),
        ('[{"answer": "A"}]', "no verdict in the reply"),
        ("Apples are better than bananas.", "no verdict in the reply"),
        ("Verdict: A\nVerdict: B", "two different verdicts in one reply"),
        ('The text says {"verdict": "A"}. {"verdict": "B"}', "two different verdicts in one reply"),
        ("{" * 50_000, "no verdict in the reply"),
    ],
)
def test_replies_without_a_verdict(text: str, failure: str) -> None:
    reply = read_reply(text, PAIR_LABELS)
    assert (reply.label, reply.failure) == (None, failure)


def test_a_cut_reply_says_so_and_a_verdict_before_the_cut_counts() -> None:
    assert read_reply('{"rationale": "The first answer', PAIR_LABELS, cut=True).failure == "cut before the verdict"
    assert read_reply("Verdict: A\nBecause the first", PAIR_LABELS, cut=True).label == "A"


@pytest.mark.parametrize(
    ("text", "points"), [('{"verdict": 10}', "10"), ("Verdict: 10", "10"), ("7", "7"), ("[[1]]", "1")]
)
def test_points(text: str, points: str) -> None:
    assert read_reply(text, POINTS).label == points


@pytest.mark.parametrize("text", ["Verdict: 11", "Verdict: 4.5", '{"verdict": 4.5}', "0", "Verdict: 10/100"])
def test_points_off_the_scale_are_failures(text: str) -> None:
    assert read_reply(text, POINTS).failure == "no verdict in the reply"


@given(st.text())
def test_any_text_gives_a_label_or_a_failure(text: str) -> None:
    reply = read_reply(text, PAIR_LABELS)
    assert (reply.label is None) != (reply.failure is None)


@given(st.sampled_from(PAIR_LABELS), st.text(), st.sampled_from(["", "\n", "```json\n", "Here it is: "]))
def test_json_is_read_whatever_stands_in_its_rationale(label: str, rationale: str, before: str) -> None:
    reply = read_reply(before + json.dumps({"rationale": rationale, "verdict": label}), PAIR_LABELS)
    if "<think" not in rationale.lower():
        assert (reply.label, reply.rationale) == (label, rationale)

"""Text is brought to one form, once and for all."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.curation.normalise.config import Normalise
from data_prep.curation.normalise.edit import Normaliser

CONFIGS = [
    Normalise(),
    Normalise(invisible="remove", trailing_spaces="remove", max_blank_lines=1),
    Normalise(unicode=None, trailing_spaces="remove", max_blank_lines=0),
    Normalise(max_blank_lines=2),
]
odd_text = st.text(
    st.sampled_from("ab \t\n\r\v\f\x00\x1b\x7f\x85\x9f\xad\u2028\u200b\u200d\u202e\ufeffe\u0301\u0316Åḍ̇日")
)


def edited(text: str, **settings: object) -> tuple[str, dict[str, int]]:
    row, counts = Normaliser(Normalise.model_validate(settings)).edit({"id": "1", "source": "d", "text": text})
    return row["text"], counts


@pytest.mark.parametrize("config", CONFIGS)
@given(st.one_of(odd_text, st.text()))
def test_twice_is_once_and_every_change_is_counted(config: Normalise, text: str) -> None:
    normaliser = Normaliser(config)
    row = {"id": "1", "text": text}
    once, counts = normaliser.edit(row)
    assert normaliser.edit(once) == (once, {})
    assert row == {"id": "1", "text": text}
    assert bool(counts) == (once != row)
    assert all(count > 0 for count in counts.values())


@given(st.one_of(odd_text, st.text()))
def test_what_is_left_is_composed_and_free_of_controls(text: str) -> None:
    made, _ = edited(text)
    assert unicodedata.is_normalized("NFC", made)
    assert all(character in "\n\t" or unicodedata.category(character) != "Cc" for character in made)
    # Nothing else was touched: the same letters, in the same order.
    plain = [c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c) not in ("Cc", "Zl", "Zp")]
    kept = [c for c in made if c not in "\n\t"]
    if not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text):
        assert kept == plain


def test_line_ends_and_controls_are_counted_by_kind() -> None:
    made, counts = edited("a\r\nb\rc\x85d\u2028e\ff\vg\x00\x1b[0m\th\x7f\x9f")
    assert made == "a\nb\nc\nd\ne\nf\ng[0m\th"
    assert counts == {"line_ends": 6, "control_characters": 4}


def test_composition_is_that_of_unicode() -> None:
    text = "e\u0301 a\u0316\u0301 \u212b \u1100\u1161\u11a8 \ufb01"
    assert edited(text) == (unicodedata.normalize("NFC", text), {"unicode": 1})
    assert edited(text, unicode=None) == (text, {})


def test_invisible_characters_go_only_when_asked() -> None:
    persian, hidden = "می\u200cخواهم \u2067abc\u2069", "pay\u200b\u202epal\ufeff\U000e0041\u00ad"
    assert edited(persian) == (persian, {}) and edited(hidden) == (hidden, {})
    assert edited(hidden, invisible="remove") == ("paypal", {"invisible": 5})


def test_spaces_and_blank_lines_go_only_when_asked() -> None:
    text = "a  \n\n \n\t\nb\t\nc "
    assert edited(text) == (text, {})
    assert edited(text, trailing_spaces="remove") == ("a\n\n\n\nb\nc", {"trailing_spaces": 5})
    assert edited(text, max_blank_lines=1) == ("a  \n\nb\t\nc ", {"blank_lines": 1})
    assert edited("a\n\nb", max_blank_lines=0) == ("a\nb", {"blank_lines": 1})
    assert edited("a\n\n\nb", max_blank_lines=2) == ("a\n\n\nb", {})


def test_all_texts_of_a_row_and_nothing_else() -> None:
    tools = [{"function": {"name": "f\r"}}]
    turn = {"role": "assistant", "content": "a\r", "tool_calls": [{"arguments": "\r"}]}
    rows = [
        {"id": "i\r", "source": "s", "prompt": "q\r", "completion": "a\r", "meta": {"url": "\r"}},
        {"id": "i", "source": "s", "messages": [{"role": "user", "content": "q\r"}, turn], "tools": tools},
        {"id": "i", "source": "s", "prompt": "q\r", "chosen": "a\r", "rejected": "b\r"},
        {"id": "i", "source": "s", "prompt": [turn], "chosen": [turn], "rejected": [turn]},
    ]
    for row, ends in zip(rows, (2, 2, 3, 3), strict=True):
        made, counts = Normaliser(Normalise()).edit(row)
        assert counts == {"line_ends": ends}
        assert made["id"] == row["id"] and made.get("meta") == row.get("meta") and made.get("tools") == row.get("tools")
        texts = [made[name] for name in ("prompt", "completion", "chosen", "rejected", "messages") if name in made]
        for side in texts:
            turns = side if isinstance(side, list) else [{"content": side}]
            assert all("\r" not in each["content"] for each in turns)
            assert all(each["tool_calls"] == [{"arguments": "\r"}] for each in turns if "tool_calls" in each)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301\u0316" * 300_000,  # sorting marks is quadratic
        ("a" + "\u0301\u0316" * 15) * 20_000,
        "\n" * 1_000_000,
        "\n " * 500_000,
        " " * 1_000_000 + "x",
        ("\n" + " " * 1000 + "x") * 1000,
        "<p" * 500_000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    config = Normalise(invisible="remove", trailing_spaces="remove", max_blank_lines=100, html="resiliparse")
    normaliser = Normaliser(config.model_copy(update={"html": None}))
    once, _ = normaliser.edit({"text": text})
    assert normaliser.edit(once) == (once, {})

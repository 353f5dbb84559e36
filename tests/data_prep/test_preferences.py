"""Judged answers of every form become canonical rows; what cannot be learned from is named."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep.config import DatasetConfig, Splits
from data_prep.errors import DataError
from data_prep.formats import choose_adapter, stored
from data_prep.load import load
from data_prep.preferences import adapt_preference, transcript_turns
from data_prep.rows import read_rows
from data_prep.splits import row_id, split_of
from data_prep.templates import BrokenRow


def adapt(row: dict, **settings: object) -> tuple[str, dict]:
    adapter = choose_adapter("d", DatasetConfig.model_validate({"source": "x", **settings}), list(row), list(row))
    [adapted] = adapter.adapt(adapter.view(row))
    stored(adapted)
    return adapter.format.name, adapted


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "s"}
CHAT_PAIR = {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]}
TEXT_PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("row", "name", "canonical"),
    [
        (TEXT_PAIR, "preference", TEXT_PAIR),  # TRL, standard
        (CHAT_PAIR, "preference", CHAT_PAIR),  # TRL, conversational
        ({**CHAT_PAIR, "tools": [{"name": "f"}]}, "preference", {**CHAT_PAIR, "tools": [TOOL]}),
        ({"prompt": [user("q")], "chosen": "a", "rejected": said("b")}, "preference", CHAT_PAIR),
        ({"prompt": "q", "chosen": [said("a")], "rejected": [said("b")]}, "preference", CHAT_PAIR),
        # The prompt stands in the dialogues only (TRL, implicit).
        ({"chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]}, "preference", CHAT_PAIR),
        ({"chosen": "q: a", "rejected": "q: b"}, "preference", {"prompt": "q:", "chosen": " a", "rejected": " b"}),
        # UltraFeedback: beside them too.
        (
            {
                "prompt": "q",
                "messages": [user("q"), said("a")],
                "chosen": [user("q"), said("a")],
                "rejected": [user("q"), said("b")],
                "score_chosen": 8.0,
            },
            "preference",
            CHAT_PAIR,
        ),
        (
            {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
            "preference",
            CHAT_PAIR,
        ),
        (
            {"instruction": "do", "input": "q", "output": "x", "chosen": "a", "rejected": "b"},
            "alpaca_preference",
            {**TEXT_PAIR, "prompt": "do\n\nq"},
        ),
        (
            {"instruction": "q", "system": "s", "chosen": "a", "rejected": "b"},
            "alpaca_preference",
            {**CHAT_PAIR, "prompt": [SYSTEM, user("q")]},
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            "sharegpt_preference",
            CHAT_PAIR,
        ),
        ({"prompt": "q", "completion": "a", "label": True}, "kto", {"prompt": "q", "completion": "a", "label": True}),
        (
            {"prompt": "q", "completion": "a", "label": "false"},
            "kto",
            {"prompt": "q", "completion": "a", "label": False},
        ),
        (
            {"messages": [SYSTEM, user("q"), said("a")], "label": 0},
            "kto",
            {"prompt": [SYSTEM, user("q")], "completion": [said("a")], "label": False},
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "label": True},
            "kto",
            {"prompt": [user("q")], "completion": [said("a")], "label": True},
        ),
        ({"text": "t", "label": 3}, "labelled", {"text": "t", "label": 3}),
    ],
)
def test_the_form_is_found_by_the_columns(row: dict, name: str, canonical: dict) -> None:
    assert adapt(row) == (name, canonical)


def test_forms_can_be_named_templated_and_mapped() -> None:
    transcripts = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    assert adapt(transcripts, format="hh_rlhf") == ("hh_rlhf", CHAT_PAIR)
    named = {"question": "q", "good": "a", "bad": "b"}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert adapt(named, columns=columns) == ("preference", TEXT_PAIR)
    made = adapt(named, columns={"chosen": "good", "rejected": "bad"}, prompt="Answer: {question}")
    assert made == ("preference", {**TEXT_PAIR, "prompt": "Answer: q"})
    # One side alone, or answers without their labels, are trained on when asked for.
    assert adapt(TEXT_PAIR, format="prompt_completion", columns={"completion": "chosen"})[1]["completion"] == "a"
    chat = {"messages": [user("q"), said("a")], "label": True}
    assert adapt(chat, format="messages") == ("messages", {"messages": chat["messages"]})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**TEXT_PAIR, "rejected": "a "}, "chosen and rejected are equal, so there is nothing to prefer"),
        ({**CHAT_PAIR, "rejected": [said("a")]}, "chosen and rejected are equal"),
        ({"chosen": "same", "rejected": "same"}, "chosen and rejected are equal"),
        ({**TEXT_PAIR, "rejected": None}, "rejected is null, neither text nor turns"),
        ({**TEXT_PAIR, "chosen": " \n"}, "chosen is empty"),
        ({**TEXT_PAIR, "prompt": ""}, "prompt is empty"),
        ({**TEXT_PAIR, "prompt": 3}, "prompt is a number, neither text nor turns"),
        ({**CHAT_PAIR, "chosen": []}, "chosen is empty, not a list of turns"),
        ({**CHAT_PAIR, "chosen": [said("")]}, "chosen is empty"),
        ({"chosen": "abc", "rejected": "xyz"}, "chosen and rejected do not share a prompt: they begin differently"),
        (
            {"chosen": [user("q"), said("a")], "rejected": [user("r"), said("b")]},
            "chosen and rejected do not share a prompt: their first turns differ",
        ),
        (
            {**CHAT_PAIR, "prompt": "r", "chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]},
            "chosen and rejected do not share the prompt: it is not among the turns they begin with",
        ),
        (
            {"chosen": [user("q"), said("a"), user("r"), said("b")], "rejected": [user("q"), said("a"), user("s")]},
            "prompt ends with a turn of the role assistant, so it does not ask for an answer",
        ),
        ({**CHAT_PAIR, "prompt": [said("q")]}, "prompt begins with a turn of the role assistant, not with the user's"),
        ({**CHAT_PAIR, "prompt": [user("q"), user("r")]}, "prompt[1] repeats the role user; join the two turns"),
        ({**CHAT_PAIR, "prompt": [user("q"), said("a")]}, "prompt ends with a turn of the role assistant"),
        ({**CHAT_PAIR, "chosen": [{"role": "robot", "content": "a"}]}, "chosen[0].role is 'robot', not one of system"),
        ({"prompt": "q", "completion": "a", "label": None}, "label is None, not true or false"),
        ({"prompt": "q", "completion": "a", "label": 2}, "label is 2, not true or false"),
        ({"prompt": "q", "completion": "a", "label": []}, "label is [], not true or false"),
        ({"prompt": "q", "completion": "", "label": True}, "completion is empty"),
        ({"messages": [user("q")], "label": True}, "messages ends with a turn of the role user, so there is no answer"),
        ({"messages": [said("a"), user("q"), said("a")]}, "messages begins with a turn of the role assistant"),
        ({"messages": [SYSTEM, said("a")]}, "messages begins with a turn of the role assistant"),
        ({"messages": [user("q"), said("a"), said("b")]}, "messages[2] repeats the role assistant; join the two turns"),
        ({"messages": [SYSTEM, user("q")]}, "messages has no turn of the assistant, so there is nothing to learn"),
        ({"text": "t", "label": None}, "label is null, not text or a whole number"),
    ],
)
def test_what_cannot_be_learned_from_is_broken(row: dict, reason: str) -> None:
    with pytest.raises(BrokenRow) as caught:
        adapt(row)
    assert str(caught.value).startswith(reason)


def test_transcripts_hold_the_words_of_both_sides() -> None:
    text = "\n\nHuman: one\n\ntwo: Human: x\n\nAssistant: three \n\nHuman: four\n\nAssistant:"
    assert transcript_turns(text, "chosen") == [user("one\n\ntwo: Human: x"), said("three"), user("four"), said("")]
    with pytest.raises(BrokenRow, match="chosen is no transcript: it does not begin with a blank line and Human:"):
        transcript_turns("Person: hello", "chosen")


turns = st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=4).map(
    lambda words: [user(word) if at % 2 == 0 else said(word) for at, word in enumerate(words)]
)


@settings(deadline=None)  # the first call imports TRL
@given(turns, turns)
def test_common_turns_are_cut_as_trl_cuts_them(chosen: list[dict], rejected: list[dict]) -> None:
    trl = pytest.importorskip("trl.data_utils")
    try:
        row = adapt_preference({"chosen": chosen, "rejected": rejected}, None)
    except BrokenRow:
        return
    assert row == trl.extract_prompt({"chosen": chosen, "rejected": rejected})


@settings(deadline=None)
@given(st.text("ab ", max_size=6), st.text("ab ", max_size=4), st.text("ab ", max_size=4))
def test_common_text_is_cut_as_trl_cuts_it(prompt: str, chosen: str, rejected: str) -> None:
    trl = pytest.importorskip("trl.data_utils")
    sides = {"chosen": prompt + chosen, "rejected": prompt + rejected}
    try:
        row = adapt_preference(sides, None)
    except BrokenRow:
        return
    assume(row["prompt"])
    assert row == trl.extract_prompt(sides)


def test_pairs_and_labels_are_what_trl_makes_of_each_other() -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    for pair in (TEXT_PAIR, CHAT_PAIR):
        unpaired = trl.unpair_preference_dataset(datasets.Dataset.from_list([pair]))
        rows = [adapt(row) for row in unpaired]
        assert [name for name, _ in rows] == ["kto", "kto"]
        assert [row["label"] for _, row in rows] == [True, False]
        assert [row["completion"] for _, row in rows] == [pair["chosen"], pair["rejected"]]
        assert all(row["prompt"] == pair["prompt"] for _, row in rows)


texts = st.text(min_size=1, max_size=8).filter(str.strip)


@given(texts, texts, texts, st.integers(0, 9))
def test_a_prompt_is_on_one_side_in_every_form(prompt: str, one: str, other: str, seed: int) -> None:
    splits = Splits(train=0.34, validation=0.33, test=0.33, seed=seed)
    plain = [
        {"prompt": prompt, "completion": one},
        {"prompt": prompt, "completion": one, "label": True},
        {"prompt": prompt, "completion": one, "label": False},
        {"prompt": prompt, "chosen": one, "rejected": other},
    ]
    chats = [
        {"messages": [user(prompt), said(one)]},
        {"prompt": [user(prompt)], "completion": [said(one)], "label": True},
        {"prompt": [user(prompt)], "chosen": [said(one)], "rejected": [said(other)]},
        {"prompt": [user(prompt), said(one), user(other)], "chosen": [said(one)], "rejected": [said(other)]},
    ]
    for group in (plain, chats):
        ids = [row_id(row) for row in group]
        assert len(set(ids)) == len(ids)
        assert len({identity.partition("-")[0] for identity in ids}) == 1
        assert len({split_of(identity, splits) for identity in ids}) == 1


def test_a_dialogue_that_goes_on_still_answers_the_prompt() -> None:
    short, long = [user("q"), said("a")], [user("q"), said("a"), user("r"), said("b")]
    made = adapt({"chosen": short, "rejected": long})[1]
    assert made == {"prompt": short[:1], "chosen": short[1:], "rejected": long[1:]}


def test_both_sides_and_the_label_are_part_of_the_id_and_meta_is_not() -> None:
    ids = {row_id(row) for row in (TEXT_PAIR, {**TEXT_PAIR, "chosen": "b", "rejected": "a"})}
    assert row_id({**TEXT_PAIR, "rejected": "c"}) not in ids
    assert len(ids) == 2 and row_id({**TEXT_PAIR, "meta": {"url": "u"}}) in ids
    assert row_id({**CHAT_PAIR, "tools": [TOOL]}) != row_id(CHAT_PAIR)


def test_columns_are_carried_along(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "url": f"u{n}", "score": float("nan") if n else 0.5, "day": None} for n in range(4)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DatasetConfig(source=str(tmp_path / "a.jsonl"), keep=["url", "score", "day"], role="eval")
    load("d", config, tmp_path / "out", None)
    made = read_rows(tmp_path / "out", "test")
    assert {row["text"]: row["meta"] for row in made} == {
        f"t{n}": {"url": f"u{n}", "score": None if n else 0.5, "day": None} for n in range(4)
    }
    assert {row["id"] for row in made} == {row_id({"text": f"t{n}"}) for n in range(4)}
    with pytest.raises(
        DataError, match=r"data\.d\.keep\.0: there is no column licence \(columns: day, score, text, url"
    ):
        load("d", config.model_copy(update={"keep": ["licence"]}), tmp_path / "no", None)

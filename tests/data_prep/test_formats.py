"""From a file's columns to canonical rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.formats import choose_adapter, stored
from data_prep.templates import BrokenRow, parse_template


def adapt(row: dict, **settings: object) -> tuple[str, dict]:
    config = DatasetConfig.model_validate({"source": "x.jsonl", **settings})
    adapter = choose_adapter("d", config, list(row), list(row))
    [adapted] = adapter.adapt(adapter.view(row))
    stored(adapted)
    return adapter.format.name, adapted


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
}


@pytest.mark.parametrize(
    ("row", "name", "canonical"),
    [
        ({"text": "t"}, "text", {"text": "t"}),
        ({"prompt": "q", "completion": ""}, "prompt_completion", {"prompt": "q", "completion": ""}),
        ({"prompt": [USER], "completion": [ANSWER]}, "prompt_completion", {"messages": [USER, ANSWER]}),
        ({"prompt": [USER], "completion": "a"}, "prompt_completion", {"messages": [USER, ANSWER]}),
        ({"messages": [USER, ANSWER], "tools": None}, "messages", {"messages": [USER, ANSWER]}),
        (
            {"messages": [USER, {**CALL, "content": None, "name": None}], "tools": '[{"name": "f"}]'},
            "messages",
            {"messages": [USER, CALL], "tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ({"instruction": "q", "output": "a"}, "alpaca", {"prompt": "q", "completion": "a"}),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", {"prompt": "q", "completion": "a"}),
        ({"instruction": "q", "input": "i", "output": "a"}, "alpaca", {"prompt": "q\n\ni", "completion": "a"}),
        (
            {"instruction": "q", "output": "a", "system": "s", "history": [["q", "a"]]},
            "alpaca",
            {"messages": [{"role": "system", "content": "s"}, USER, ANSWER, USER, ANSWER]},
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "q"},
                    {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                    {"from": "observation", "value": "o"},
                    {"from": "gpt", "value": "a"},
                ],
                "system": "s",
                "tools": "",
            },
            "sharegpt",
            {"messages": [{"role": "system", "content": "s"}, USER, CALL, {"role": "tool", "content": "o"}, ANSWER]},
        ),
        ({"conversations": [USER, ANSWER]}, "sharegpt", {"messages": [USER, ANSWER]}),
        (
            {"id": 1, "document": "d {x}", "summary": "s"},
            "document_summary",
            {"prompt": "Summarise the text below in one sentence.\n\nd {x}", "completion": "s"},
        ),
    ],
)
def test_the_format_is_found_by_the_columns(row: dict, name: str, canonical: dict) -> None:
    assert adapt(row) == (name, canonical)


def test_columns_are_mapped_even_when_they_swap_names() -> None:
    assert adapt({"q": "1", "a": "2"}, columns={"prompt": "q", "completion": "a"})[1] == {
        "prompt": "1",
        "completion": "2",
    }
    swapped = {"prompt": "completion", "completion": "prompt"}
    assert adapt({"prompt": "1", "completion": "2"}, columns=swapped)[1] == {"prompt": "2", "completion": "1"}
    # A mapping names the format: the file's own messages column is not taken.
    assert (
        adapt({"messages": [USER], "q": "1", "a": "2"}, columns={"prompt": "q", "completion": "a"})[0]
        == "prompt_completion"
    )


def test_a_prompt_template_stands_in_for_the_prompt() -> None:
    row = {"question": "Why?", "hint": 3, "answer": "So."}
    made = adapt(row, prompt="{question} ({hint}) {{}}", columns={"completion": "answer"})
    assert made == ("prompt_completion", {"prompt": "Why? (3) {}", "completion": "So."})
    assert adapt({"instruction": "q", "output": "a"}, prompt="Do: {instruction}")[1]["prompt"] == "Do: q"


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        (
            {"question": 1, "answer": 2},
            {},
            r"data\.d: no format fits \(columns: answer, question\); formats: sharegpt_pref",
        ),
        ({"question": 1, "answer": 2}, {}, r"data\.d\.columns=\{prompt: question, completion: answer\}"),
        ({"body": 1}, {}, r"data\.d\.columns=\{text: body\}"),
        ({"a": 1}, {"columns": {"text": "b"}}, r"data\.d\.columns\.text: there is no column b \(columns: a\)"),
        (
            {"a": 1},
            {"format": "text"},
            r"format text needs the column text \(columns: a\); map it: data\.d\.columns=\{text",
        ),
        ({"text": 1}, {"format": "text", "prompt": "{text}"}, r"data\.d\.prompt: the format text has no prompt"),
        ({"text": 1}, {"format": "text", "columns": {"prompt": "text"}}, r"columns\.prompt: not read by format text"),
        (
            {"document": 1, "summary": 1},
            {"prompt": "{docment}"},
            r"data\.d\.prompt: there is no column docment \(columns: d",
        ),
        (
            {"text": 1},
            {"keep": ["url"]},
            r"data\.d\.keep\.0: there is no column url \(columns: text\); name one of these",
        ),
        ({"text": 1}, {"wrong": "one"}, r"data\.d\.wrong: only for the format choice_preference, not text; remove it"),
    ],
)
def test_columns_that_do_not_fit_are_told(row: dict, settings: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        adapt(row, **settings)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "completion": None}, "completion is null, not text"),
        ({"prompt": "q", "completion": 3}, "completion is a number, not text"),
        ({"text": "\ud800"}, "invalid UTF-8 (or half of a surrogate pair) in its text"),
        ({"messages": []}, "messages is empty, not a list of turns"),
        ({"messages": "[]"}, "messages is text, not a list of turns"),
        ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages[1].role is 'robot', not one of system"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role is ['user'], not one of system"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content is a list, not text"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content is missing, not text"),
        ({"messages": [{**USER, "weight": float("nan")}, ANSWER]}, "holds a value that JSON cannot"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "conversations[0].from is 'alien', not one of system"),
        ({"conversations": [{"from": "function_call", "value": "f("}]}, "conversations[0].value is not JSON"),
        ({"messages": [USER], "tools": "{}"}, "tools is not a list of objects"),
        ({"instruction": "q", "output": "a", "history": [["q"]]}, "history[0] is not a [question, answer] pair"),
        ({"instruction": "q", "output": "a", "history": "q"}, "history is text, not a list of pairs"),
        ({"document": None, "summary": "s"}, "document is null, so the prompt has a hole"),
    ],
)
def test_a_row_of_the_wrong_types_is_broken(row: dict, said: str) -> None:
    with pytest.raises(BrokenRow) as caught:
        adapt(row)
    assert str(caught.value).startswith(said)


def test_a_missing_field_is_broken_and_never_taken_from_a_column_of_that_name() -> None:
    config = DatasetConfig(source="x", columns={"prompt": "q", "completion": "a"})
    adapter = choose_adapter("d", config, ["q", "a"], ["q", "a"])
    with pytest.raises(BrokenRow, match="completion is missing"):
        adapter.adapt(adapter.view({"q": "1", "completion": "of another kind"}))


@given(st.text(), st.text())
def test_braces_in_the_data_pass_through(document: str, extra: str) -> None:
    template = parse_template("{{{document}}} {extra}", "data.d.prompt")
    assert template.fill({"document": document, "extra": extra}) == f"{{{document}}} {extra}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{document", r"data\.d\.prompt: not a template"),
        ("{document!r}", r"\{document\} has a format or conversion; only plain \{column\} is allowed"),
        ("{document:>9}", "has a format or conversion"),
        ("Summarise", "names no column, so every prompt would be the same"),
        ("{document.__class__}", r"there is no column document\.__class__"),
        ("{document[0]}", r"there is no column document\[0\]"),
    ],
)
def test_templates_reach_columns_and_nothing_else(template: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        adapt({"document": "d", "summary": "s"}, prompt=template)


def test_the_config_refuses_what_would_have_no_effect() -> None:
    with pytest.raises(ValueError, match="query is not a canonical column; allowed are text, prompt"):
        DatasetConfig(source="x", columns={"query": "prompt"})
    with pytest.raises(ValueError, match=r"train \+ validation \+ test must be 1, not 0\.9; change one of the three"):
        DatasetConfig.model_validate({"source": "x", "splits": {"train": 0.7}})

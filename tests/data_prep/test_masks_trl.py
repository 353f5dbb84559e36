"""Masks equal TRL's training templates, token by token, for every family that TRL ships."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHAT, build, conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.tokens.masks import IGNORED, Encoded, encode
from data_prep.tokens.template import Rendered, RowTemplateError, end_of_turn, render

trl = pytest.importorskip("trl")
FOLDER = Path(trl.__file__).parent / "chat_templates"
FAMILIES = sorted(file.name.removesuffix("_training.jinja") for file in FOLDER.glob("*_training.jinja"))
# Their templates take the content of a turn as a list of blocks.
BLOCKS = {"idefics3", "llava_next", "smolvlm"}
CONTROL = re.compile(r"<[|｜][^<>\s'\"{}]+[|｜]?>|</?(?!s>)[a-z_]+>|\[/?[A-Z_]+\]|<[a-z_]+\|>|<[A-Z_|]+>")
# The original reads a question and an answer in a way that no prefix can verify; TRL's training variant is needed.
NEEDS_TRL = {"glm4moe", "deepseek_r1_distill", "deepseekv3", *(name for name in FAMILIES if "nemotron" in name)}

QUESTION = {"role": "user", "content": "Capital of France?"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "look_up", "arguments": {"city": "Paris"}}}],
}
TOOL = {"role": "tool", "name": "look_up", "content": "2 million"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks up.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "City"}}},
        },
    }
]
ROWS: dict[str, dict[str, Any]] = {
    "two turns": CHAT,
    "one turn": {"id": "one", "messages": CHAT["messages"][:2]},
    "system": {"id": "sys", "messages": [SYSTEM, *CHAT["messages"]]},
    "empty answer": {"id": "empty", "messages": [QUESTION, {"role": "assistant", "content": ""}]},
    "ends with the user": {"id": "open", "messages": CHAT["messages"][:3]},
    "tools": {"id": "tool", "tools": TOOLS, "messages": [QUESTION, CALL, TOOL, CHAT["messages"][3]]},
}


@cache
def template(name: str, kind: str = "") -> str:
    """A template of TRL: the original, or with `_training` the variant for training."""
    return (FOLDER / f"{name}{kind}.jinja").read_text("utf-8")


def tokenizer_of(name: str, kind: str = "") -> Any:
    """A small tokenizer with the control tokens that a family's template writes."""
    special = tuple(sorted(set(CONTROL.findall(template(name)))))
    return build(template(name, kind), "<s>", "</s>", special)


def row_for(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its contents as blocks where a family's template wants them so."""
    if name not in BLOCKS:
        return row
    turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in row["messages"]]
    return {**row, "messages": turns}


def of_trl(tokenizer: Any, row: dict[str, Any], name: str) -> tuple[list[int], list[int]] | None:
    """Ids and mask that TRL trains on; None where its template refuses the row."""
    try:
        found = tokenizer.apply_chat_template(
            row["messages"],
            tools=row.get("tools"),
            chat_template=template(name, "_training"),
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
    except Exception:  # whatever a template raises
        return None
    return found["input_ids"], found["assistant_masks"]


def mask(encoded: Encoded) -> list[int]:
    return [int(label != IGNORED) for label in encoded.labels]


def in_multibyte(rendered: Rendered, span: tuple[int, int]) -> bool:
    """Whether a token is part of a learned character of several tokens, of which transformers' mask may miss some."""
    inside = any(start <= span[0] and span[1] <= end for start, end in rendered.supervised)
    return inside and not rendered.text[slice(*span)].isascii()


def compare(name: str, row: dict[str, Any]) -> bool:
    """Whether TRL's template takes the row; if so, our ids and mask are equal to its own."""
    row, tokenizer = row_for(name, row), tokenizer_of(name, "_training")
    theirs = of_trl(tokenizer, row, name)
    if theirs is None:
        with pytest.raises(RowTemplateError, match=f"row {row['id']}: the chat template refuses it"):
            render(tokenizer, row)
        return False
    rendered = render(tokenizer, row)
    encoded = encode(tokenizer, rendered, 10_000)
    assert encoded.input_ids == theirs[0]
    if not encoded.straddling:  # TRL also learns a token that reaches into the prompt
        assert mask(encoded) == [
            max(other, in_multibyte(rendered, span)) for other, span in zip(theirs[1], encoded.offsets, strict=True)
        ]
    assert all(label in (token, IGNORED) for token, label in zip(encoded.input_ids, encoded.labels, strict=True))
    return True


@pytest.mark.parametrize("name", FAMILIES)
def test_marked_templates_give_the_masks_of_trl(name: str) -> None:
    taken = {kind for kind, row in ROWS.items() if compare(name, row)}
    assert {"two turns", "one turn"} <= taken


def test_every_family_is_there() -> None:
    assert {"llama3", "qwen2_5", "qwen3", "gemma3", "phi3", "glm4moe", "gptoss", "deepseekv3"} <= set(FAMILIES)
    taken = {name for name in FAMILIES if name not in BLOCKS and compare(name, ROWS["tools"])}
    assert {"qwen3", "qwen2_5", "glm4moe", "gptoss", "deepseekv3"} <= taken


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FAMILIES), row=conversations())
def test_any_conversation_gives_the_masks_of_trl(name: str, row: dict[str, Any]) -> None:
    compare(name, row)


@pytest.mark.parametrize("name", FAMILIES)
def test_original_templates_differ_only_around_the_answer(name: str) -> None:
    """Without marks: the answer through its end-of-turn token. Not what the prompt holds already, nor what follows."""
    row, tokenizer = row_for(name, CHAT), tokenizer_of(name)
    try:
        rendered = render(tokenizer, row)
    except DataError as error:
        assert name in NEEDS_TRL | BLOCKS or "rewrites assistant turn 1" in str(error)
        return
    encoded, theirs = encode(tokenizer, rendered, 10_000), of_trl(tokenizer, row, name)
    assert theirs is not None and encoded.input_ids == theirs[0]
    pairs = list(zip(mask(encoded), theirs[1], encoded.input_ids, strict=True))
    assert not any(ours and not other for ours, other, _ in pairs)
    more = [tokenizer.decode([token]) for ours, other, token in pairs if other and not ours]
    header = ("assistant", "<|start|>", "<think>")  # some of TRL's marks hold the prompt's own words
    behind = (*header, "</s>", "<|END_OF_TURN_TOKEN|>", "<|end|>")
    assert all(not piece.strip() or piece.strip() in behind or piece.strip() in "assistant" for piece in more), more
    answers = [rendered.text[start:end] for start, end in rendered.supervised]
    assert all(answer.endswith(end_of_turn(tokenizer)) for answer in answers)
    assert ["Hello there" in answers[0], "Paris" in answers[1]] == [True, True]


def test_marks_without_the_end_token_are_refused() -> None:
    """huggingface/trl PR 5988: a template that never taught its model to stop."""
    text = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{{ '<|im_end|>' }}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    with pytest.raises(RowTemplateError, match="row c-1: .* leaves the end-of-turn token out of its"):
        render(build(text, None, "<|im_end|>", ()), CHAT)


def test_marks_that_mark_nothing_are_refused() -> None:
    text = "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}{% generation %}{% endgeneration %}"
    with pytest.raises(RowTemplateError, match="row c-1: .* marks no assistant turn"):
        render(build(text, None, "<|im_end|>", ()), CHAT)


def test_only_the_last_marked_answer_counts_for_completion() -> None:
    tokenizer = tokenizer_of("qwen3", "_training")
    rendered = render(tokenizer, CHAT, loss_on="completion")
    assert [rendered.text[start:end] for start, end in rendered.supervised] == [
        "<think>\n\n</think>\n\nParis<|im_end|>\n"
    ]

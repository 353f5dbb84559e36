"""Held-out rows as samples: which rows are measured, what the model is given, and the text it is measured on."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from data_prep.tokens.config import Template
from data_prep.tokens.masks import prompt_ids
from data_prep.tokens.preference import side_row
from data_prep.tokens.template import RowTemplateError, render, rendered_prompt, template_kind


class Sample(NamedTuple):
    """A text to score or to answer, after a rendered prompt or (`prompt` None) from its first token on."""

    id: str
    prompt: str | None
    text: str
    prompt_ids: list[int] | None = None
    """The prompt's tokens where somebody typed control tokens into a message: its text would be read as control."""


def choose(rows: Sequence[Row], max_rows: int | None) -> list[Row]:
    """The first `max_rows` rows in the order of a hash of their ids: the same rows however the file is ordered."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    return ordered[:max_rows]


def samples_of(tokenizer: Any, rows: Sequence[Row], template: Template = "auto") -> list[Sample]:
    """Text rows whole; other rows as rendered prompt and last answer. DataError where the two kinds are mixed.

    Of preference rows the chosen answer is measured.
    """
    rows = [side_row(row, "chosen") if shape_of(row) == "preference" else row for row in rows]
    kinds = {shape_of(row) == "text" for row in rows}
    if len(kinds) > 1:
        raise DataError("test rows: text rows and rows with a prompt are mixed; put them into two data sets")
    if kinds == {True}:
        return [Sample(row["id"], None, row["text"]) for row in rows]
    return [_with_prompt(tokenizer, row, template) for row in rows]


def template_sha256(tokenizer: Any, template: Template = "auto") -> str:
    """Which template renders the prompts: sha256 of the chat template's text, or of the word `plain`."""
    kind = template_kind(tokenizer, template)
    return hashlib.sha256((str(tokenizer.chat_template) if kind == "chat" else kind).encode()).hexdigest()


def _with_prompt(tokenizer: Any, row: Row, template: Template) -> Sample:
    rendered = rendered_prompt(tokenizer, row, template)
    prompt, ids = rendered.text, prompt_ids(tokenizer, rendered) if rendered.typed else None
    answer = _last_answer(row)
    if template_kind(tokenizer, template) == "chat" and answer != answer.strip():
        answer = _as_trained(tokenizer, row, template, prompt, answer)
    return Sample(row["id"], prompt, answer, ids)


def _last_answer(row: Row) -> str:
    if shape_of(row) == "prompt_completion":
        return row["completion"]
    answers = [message for message in row["messages"] if message["role"] == "assistant"]
    if not answers:
        raise DataError(f"row {row['id']}: has no assistant turn to measure; drop the row")
    content = answers[-1].get("content") or ""
    return content if isinstance(content, str) else "".join(block.get("text") or "" for block in content)


def _as_trained(tokenizer: Any, row: Row, template: Template, prompt: str, answer: str) -> str:
    """The answer with or without its outer white space: as the template writes it, so as a model is trained on it."""
    try:
        text = render(tokenizer, row, template, loss_on="completion").text
    except RowTemplateError:
        return answer
    return answer if text.startswith(prompt + answer) else answer.strip()

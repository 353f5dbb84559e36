"""Rows as the exact text a model is trained on, with the character spans that carry loss."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from data_prep.tokens.answer_spans import RowTemplateError, answer_spans, apply_template, assistant_turns, end_token
from data_prep.tokens.config import CHAT_TEMPLATES, LossOn, Template
from data_prep.tokens.typed import control_tokens, refuse_private

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHOICES = f"stages.sft.chat_template={'|'.join(CHAT_TEMPLATES)}|PATH"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a row and its supervised parts, ordered and disjoint half-open character spans.

    The text holds the beginning-of-sequence token where the model wants one: tokenise it without adding special tokens.
    """

    text: str
    supervised: list[tuple[int, int]]
    typed: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Spans of control tokens that somebody typed into a message: they become ordinary tokens."""


def render(
    tokenizer: "PreTrainedTokenizerBase",
    row: Row,
    template: Template = "auto",
    loss_on: LossOn = "assistant",
    separator: str = "\n",
) -> Rendered:
    """The training text of a row and what of it carries loss; an answer's span ends with its end-of-turn token.

    Raises RowTemplateError when this row's spans cannot be verified, DataError when the template fits no row.
    """
    if shape_of(row) == "text":
        text, start = _with_bos(tokenizer, _with_eos(tokenizer, row["text"]))
        return Rendered(text, [(start, len(text))])
    if template_kind(tokenizer, template) == "chat":
        return _render_chat(tokenizer, row, loss_on)
    prompt, bos = _plain_prompt(tokenizer, row, separator)
    text = prompt + _with_eos(tokenizer, row["completion"])
    return Rendered(text, [(bos if loss_on == "all" else len(prompt), len(text))])


def render_prompt(
    tokenizer: "PreTrainedTokenizerBase", row: Row, template: Template = "auto", separator: str = "\n"
) -> str:
    """The text of `rendered_prompt`."""
    return rendered_prompt(tokenizer, row, template, separator).text


def rendered_prompt(
    tokenizer: "PreTrainedTokenizerBase", row: Row, template: Template = "auto", separator: str = "\n"
) -> Rendered:
    """What a row's last answer is generated from: exactly what precedes that answer in `render`.

    A conversation without an assistant turn is continued at its end. `data_prep.tokens.masks.prompt_ids`: its tokens.
    """
    if shape_of(row) == "text":
        raise DataError(f"row {row.get('id')}: a text row has no prompt; use prompt/completion or chat rows")
    if template_kind(tokenizer, template) == "plain":
        return Rendered(_plain_prompt(tokenizer, row, separator)[0], [])
    row, messages, hidden = _hide_typed(tokenizer, row)
    turns = assistant_turns(messages)
    text = apply_template(tokenizer, row, messages[: turns[-1]] if turns else messages, prompt=True)
    shown, typed = control_tokens(tokenizer).shown(text) if hidden else (text, [])
    return Rendered(shown, [], typed)


def template_kind(tokenizer: "PreTrainedTokenizerBase", template: Template) -> str:
    """`chat` or `plain`: what `auto` means for this tokenizer; DataError for `chat` without a chat template."""
    if template == "chat" and not tokenizer.chat_template:
        raise DataError(
            f"template=chat: the tokenizer has no chat template; use template=plain or choose one: {CHOICES}"
        )
    return ("chat" if tokenizer.chat_template else "plain") if template == "auto" else template


def end_of_turn(tokenizer: "PreTrainedTokenizerBase", template: Template = "auto") -> str:
    """The special token that ends an answer, so the one generation has to stop at; DataError when there is none."""
    if template_kind(tokenizer, template) == "plain":
        return _eos(tokenizer)
    return end_token(tokenizer)


def _render_chat(tokenizer: "PreTrainedTokenizerBase", row: Row, loss_on: LossOn) -> Rendered:
    row, messages, hidden = _hide_typed(tokenizer, row)
    text, spans = answer_spans(tokenizer, row, messages, loss_on)
    if loss_on == "all":
        bos = _bos(tokenizer)
        spans = [(len(bos) if text.startswith(bos) else 0, len(text))]
    shown, typed = control_tokens(tokenizer).shown(text) if hidden else (text, [])
    return Rendered(shown, spans, typed)


def _hide_typed(tokenizer: "PreTrainedTokenizerBase", row: Row) -> tuple[Row, list[dict[str, Any]], bool]:
    """The row and its messages with private names for typed control tokens, and whether there are any."""
    control, messages, tools = control_tokens(tokenizer), _messages(row), row.get("tools")
    hidden = [control.hidden_in(message, str(message.get("role"))) for message in messages]
    hidden_tools = control.hidden_in(tools, "tool")
    if hidden == messages and hidden_tools == tools:
        return row, messages, False
    try:
        refuse_private([messages, tools])
    except DataError as error:
        raise RowTemplateError(f"row {row.get('id')}: {error}") from None
    return {**row, "tools": hidden_tools}, hidden, True


def _messages(row: Row) -> list[dict[str, Any]]:
    if shape_of(row) == "chat":
        return row["messages"]
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


def _plain_prompt(tokenizer: "PreTrainedTokenizerBase", row: Row, separator: str) -> tuple[str, int]:
    """The prompt side of a plain row with its separator, and the length of the beginning-of-sequence token in it."""
    if shape_of(row) == "chat":
        raise DataError(
            f"row {row.get('id')}: messages need a chat template and the plain template has no roles; use "
            f"template=chat, and for a tokenizer without a chat template choose one: {CHOICES}"
        )
    prompt, completion = row["prompt"], row["completion"]
    joined = not prompt or prompt[-1].isspace() or completion[:1].isspace()
    return _with_bos(tokenizer, prompt + ("" if joined else separator))


def _with_bos(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[str, int]:
    """Text with the one beginning-of-sequence token that the tokenizer's own policy adds, and that token's length."""
    bos = _bos(tokenizer)
    if not bos or not (text.startswith(bos) or _adds_bos(tokenizer)):
        return text, 0
    return text if text.startswith(bos) else bos + text, len(bos)


@lru_cache(maxsize=8)
def _adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _with_eos(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    eos = _eos(tokenizer)
    return text if text.endswith(eos) else text + eos


def _bos(tokenizer: "PreTrainedTokenizerBase") -> str:
    return str(tokenizer.bos_token or "")


def _eos(tokenizer: "PreTrainedTokenizerBase") -> str:
    if not tokenizer.eos_token:
        raise DataError("the tokenizer has no end-of-sequence token, so a model could never stop; set its eos_token")
    return str(tokenizer.eos_token)

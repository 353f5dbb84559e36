"""Rows as the exact text a model is trained on, with the character spans that carry loss.

Spans come from verified prefix rendering, for any chat template: the text before an assistant turn is the generation
prompt of the messages before it, and that turn must read the same when it is generated and when it is trained on.
Whatever cannot be verified is an error, never a guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from data_prep.tokens.config import LossOn, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Letters and digits only, so that no template trims, escapes or parses it.
_PROBE = "ProvetuneProbe7f3a"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a row and its supervised parts, ordered and disjoint half-open character spans.

    The text holds the beginning-of-sequence token where the model wants one: tokenise it without adding special tokens.
    """

    text: str
    supervised: list[tuple[int, int]]


class RowTemplateError(DataError):
    """One row does not fit the chat template; other rows may."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """How a chat template ends an answer: the token, and the pattern of all that may follow it within the turn."""

    token: str
    special: re.Pattern[str]
    after: re.Pattern[str]


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
    """The text to generate a row's last answer from: exactly what precedes that answer in `render`.

    A conversation without an assistant turn is continued at its end. Tokenise it without adding special tokens.
    """
    if shape_of(row) == "text":
        raise DataError(f"row {row.get('id')}: a text row has no prompt; use prompt/completion or chat rows")
    if template_kind(tokenizer, template) == "plain":
        return _plain_prompt(tokenizer, row, separator)[0]
    messages = _messages(row)
    turns = _assistant_turns(messages)
    return _apply(tokenizer, row, messages[: turns[-1]] if turns else messages, prompt=True)


def template_kind(tokenizer: "PreTrainedTokenizerBase", template: Template) -> str:
    """`chat` or `plain`: what `auto` means for this tokenizer; DataError for `chat` without a chat template."""
    if template == "chat" and not tokenizer.chat_template:
        raise DataError(
            "template=chat: the tokenizer has no chat template; use template=plain or a tokenizer with a chat template"
        )
    return ("chat" if tokenizer.chat_template else "plain") if template == "auto" else template


def end_of_turn(tokenizer: "PreTrainedTokenizerBase", template: Template = "auto") -> str:
    """The special token that ends an answer, so the one generation has to stop at; DataError when there is none."""
    if template_kind(tokenizer, template) == "plain":
        return _eos(tokenizer)
    return _ends(tokenizer, _template_text(tokenizer)).token


def _render_chat(tokenizer: "PreTrainedTokenizerBase", row: Row, loss_on: LossOn) -> Rendered:
    messages = _messages(row)
    turns = _assistant_turns(messages)
    _ends(tokenizer, _template_text(tokenizer))  # a template that fits no row is named as such
    text = _apply(tokenizer, row, messages, prompt=False)
    # The last turn is verified whatever carries loss: evaluation generates it from `render_prompt`.
    asked = turns if loss_on == "assistant" else turns[-1:]
    spans = [_turn_span(tokenizer, row, messages, turn, text) for turn in asked]
    if loss_on == "all":
        bos = _bos(tokenizer)
        return Rendered(text, [(len(bos) if text.startswith(bos) else 0, len(text))])
    if any(end > start for (_, end), (start, _) in zip(spans, spans[1:], strict=False)):
        raise _unverified(row, "lets two assistant turns overlap")
    return Rendered(text, spans)


def _turn_span(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: list[dict[str, Any]], turn: int, text: str
) -> tuple[int, int]:
    """The span of one assistant turn in `text`: from the end of its generation prompt through its end-of-turn token."""
    if turn == 0:
        raise _unverified(row, "has no prompt for a conversation that begins with an assistant turn")
    prompt = _apply(tokenizer, row, messages[:turn], prompt=True)
    last = turn == len(messages) - 1
    shown = text if last else _apply(tokenizer, row, messages[: turn + 1], prompt=False)
    if not shown.startswith(prompt):
        raise _unverified(row, f"writes a generation prompt that does not begin the rendered assistant turn {turn}")
    end = _answer_end(tokenizer, row, shown, len(prompt))
    if not text.startswith(shown[:end]):
        raise _unverified(row, f"rewrites assistant turn {turn} once later messages follow")
    answer = _squeezed(shown[len(prompt) : end])
    if not all(_squeezed(part) in answer for part in _texts(messages[turn])):
        raise _unverified(row, f"changes or drops the content of assistant turn {turn}")
    return len(prompt), end


def _answer_end(tokenizer: "PreTrainedTokenizerBase", row: Row, shown: str, start: int) -> int:
    """Where the answer that begins at `start` and is the last thing in `shown` has its end-of-turn token behind it."""
    ends = _ends(tokenizer, _template_text(tokenizer))
    found = shown.rfind(ends.token, start)
    if found >= 0 and ends.after.fullmatch(shown, found + len(ends.token)):
        return found + len(ends.token)
    # A turn of another kind, such as a tool call, may end with a token of its own.
    for match in ends.special.finditer(shown, start):
        if not shown[match.end() :].strip():
            return match.end()
    raise _unverified(row, f"ends an assistant turn with {shown[start:][-40:]!r}, which holds no end-of-turn token")


@lru_cache(maxsize=8)
def _ends(tokenizer: "PreTrainedTokenizerBase", template: str) -> _Ends:
    """Learn from one probe conversation how `template` ends an answer (`template` is part of the cache key)."""
    question: dict[str, Any] = {"role": "user", "content": "Question"}
    row = {"id": "probe"}
    try:
        bare, opened = (_apply(tokenizer, row, [question], prompt=prompt) for prompt in (False, True))
        shown = _apply(tokenizer, row, [question, {"role": "assistant", "content": _PROBE}], prompt=False)
    except RowTemplateError as error:
        raise _never_fits(f"it refuses a question and its answer ({error.__cause__})") from error
    if not shown.startswith(opened):
        raise _never_fits("its generation prompt does not begin a rendered assistant turn")
    lead, found, tail = shown[len(opened) :].partition(_PROBE)
    if not found:
        raise _never_fits("it does not write the content of an assistant turn")
    if lead.strip() and opened == bare:
        raise _never_fits(f"it ignores add_generation_prompt but writes {lead!r} before an answer")
    special = _special_pattern(tokenizer)
    end = special.match(tail.lstrip())
    if not end:
        raise _never_fits(
            f"it ends an answer with {tail!r}, no special token of the tokenizer: the model would never stop"
        )
    return _Ends(end.group(), special, re.compile(rf"(?:\s|{special.pattern})*"))


def _special_pattern(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    tokens = {*cast("PreTrainedTokenizerFast", tokenizer).get_added_vocab(), *tokenizer.all_special_tokens}
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=lambda token: (-len(token), token))))


def _apply(tokenizer: "PreTrainedTokenizerBase", row: Row, messages: Sequence[dict[str, Any]], prompt: bool) -> str:
    """The chat template's text; whatever a template raises becomes one line that names the row."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=row.get("tools") or None, add_generation_prompt=prompt, tokenize=False
        )
    except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        raise RowTemplateError(
            f"row {row.get('id')}: the chat template refuses it ({error}); correct the row, choose another template, "
            "or set stages.sft.on_template_error=drop"
        ) from error
    return str(text)


def _messages(row: Row) -> list[dict[str, Any]]:
    if shape_of(row) == "chat":
        return row["messages"]
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


def _assistant_turns(messages: Sequence[dict[str, Any]]) -> list[int]:
    return [index for index, message in enumerate(messages) if message.get("role") == "assistant"]


def _texts(message: dict[str, Any]) -> list[str]:
    """The text parts of a message, whose content is a string, a list of blocks or absent (a tool call)."""
    content = message.get("content") or ""
    return [content] if isinstance(content, str) else [block.get("text") or "" for block in content]


def _squeezed(text: str) -> str:
    """Text without whitespace, which templates may trim."""
    return "".join(text.split())


def _template_text(tokenizer: "PreTrainedTokenizerBase") -> str:
    return str(tokenizer.chat_template)


def _plain_prompt(tokenizer: "PreTrainedTokenizerBase", row: Row, separator: str) -> tuple[str, int]:
    """The prompt side of a plain row with its separator, and the length of the beginning-of-sequence token in it."""
    if shape_of(row) == "chat":
        raise DataError(
            f"row {row.get('id')}: messages need a chat template and the plain template has no roles; "
            "use template=chat with a tokenizer that has a chat template, or prompt/completion data"
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


def _unverified(row: Row, problem: str) -> RowTemplateError:
    return RowTemplateError(
        f"row {row.get('id')}: the chat template {problem}, so no loss mask can be trusted; supervise the last turn "
        "only (stages.sft.loss_on=completion), choose another chat template, or set stages.sft.on_template_error=drop"
    )


def _never_fits(problem: str) -> DataError:
    return DataError(
        f"the chat template cannot be trained on: {problem}; choose another chat template or stages.sft.template=plain"
    )

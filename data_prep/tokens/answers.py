"""Where the answers stand in a conversation that a chat template has rendered.

Spans come from verified prefix rendering, for any chat template: the text before an assistant turn is the generation
prompt of the messages before it, and that turn must read the same when it is generated and when it is trained on. A
template with `{% generation %}` marks says itself what is the assistant's; its marks must hold the end-of-turn token.
Whatever cannot be verified is an error, never a guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.tokens.config import LossOn
from data_prep.tokens.marks import has_marks, marked_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

Span = tuple[int, int]

# Letters and digits only, so that no template trims, escapes or parses it.
_PROBE = "ProvetuneProbe7f3a"


class RowTemplateError(DataError):
    """One row does not fit the chat template; other rows may."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """How a chat template ends an answer: the token, and the pattern of all that may follow it within the turn."""

    token: str
    special: re.Pattern[str]
    after: re.Pattern[str]


def answer_spans(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: list[dict[str, Any]], loss_on: LossOn
) -> tuple[str, list[Span]]:
    """The rendered text of a conversation and the spans of its answers; with `completion` of the last one only.

    Raises RowTemplateError when this row's spans cannot be verified, DataError when the template fits no row.
    """
    found = _marked if has_marks(_template_text(tokenizer)) else _verified
    return found(tokenizer, row, messages, loss_on)


def end_token(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The special token with which the chat template ends an answer; DataError when there is none."""
    template = _template_text(tokenizer)
    return _marked_end(tokenizer, template) if has_marks(template) else _ends(tokenizer, template).token


def _verified(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: list[dict[str, Any]], loss_on: LossOn
) -> tuple[str, list[Span]]:
    """The text and the spans of its answers, found and verified by rendering prefixes."""
    turns = assistant_turns(messages)
    _ends(tokenizer, _template_text(tokenizer))  # a template that fits no row is named as such
    text = apply_template(tokenizer, row, messages, prompt=False)
    # The last turn is verified whatever carries loss: evaluation generates it from `render_prompt`.
    asked = turns if loss_on == "assistant" else turns[-1:]
    spans = [_turn_span(tokenizer, row, messages, turn, text) for turn in asked]
    if any(end > start for (_, end), (start, _) in zip(spans, spans[1:], strict=False)):
        raise _unverified(row, "lets two assistant turns overlap")
    return text, spans


def _marked(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: list[dict[str, Any]], loss_on: LossOn
) -> tuple[str, list[Span]]:
    """The text and what its template marks with `{% generation %}`; each answer must hold its end-of-turn token."""
    text, spans = marked_spans(tokenizer, messages, row.get("tools") or None, lambda error: _refused(row, error))
    if not spans and assistant_turns(messages):
        raise _unverified(row, "marks no assistant turn with {% generation %}")
    special = _special_pattern(tokenizer)
    if any(not _ends_with_token(text[start:end], special) for start, end in spans):
        raise _unverified(row, "leaves the end-of-turn token out of its {% generation %} marks")
    return text, spans[-1:] if loss_on == "completion" else spans


def _ends_with_token(answer: str, special: re.Pattern[str]) -> bool:
    """Whether a special token is the last thing in an answer but white space."""
    ends = [found.end() for found in special.finditer(answer)]
    return bool(ends) and not answer[ends[-1] :].strip()


def _turn_span(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: list[dict[str, Any]], turn: int, text: str
) -> Span:
    """The span of one assistant turn in `text`: from the end of its generation prompt through its end-of-turn token."""
    if turn == 0:
        raise _unverified(row, "has no prompt for a conversation that begins with an assistant turn")
    prompt = apply_template(tokenizer, row, messages[:turn], prompt=True)
    last = turn == len(messages) - 1
    shown = text if last else apply_template(tokenizer, row, messages[: turn + 1], prompt=False)
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
        bare, opened = (apply_template(tokenizer, row, [question], prompt=prompt) for prompt in (False, True))
        shown = apply_template(tokenizer, row, [question, {"role": "assistant", "content": _PROBE}], prompt=False)
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


def apply_template(
    tokenizer: "PreTrainedTokenizerBase", row: Row, messages: Sequence[dict[str, Any]], prompt: bool
) -> str:
    """The chat template's text; whatever a template raises becomes one line that names the row."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=row.get("tools") or None, add_generation_prompt=prompt, tokenize=False
        )
    except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        raise _refused(row, error) from error
    return str(text)


def _refused(row: Row, error: Exception) -> RowTemplateError:
    return RowTemplateError(
        f"row {row.get('id')}: the chat template refuses it ({error}); correct the row, choose another template, "
        "or set stages.sft.on_template_error=drop"
    )


@lru_cache(maxsize=8)
def _marked_end(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The last special token that `template` marks in an answer (it is part of the cache key)."""
    question: dict[str, Any] = {"role": "user", "content": "Question"}
    answer: dict[str, Any] = {"role": "assistant", "content": _PROBE}
    text, spans = _marked(tokenizer, {"id": "probe"}, [question, answer], "assistant")
    return _special_pattern(tokenizer).findall(text[slice(*spans[-1])])[-1]


def assistant_turns(messages: Sequence[dict[str, Any]]) -> list[int]:
    """Places of the assistant's turns."""
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


def _unverified(row: Row, problem: str) -> RowTemplateError:
    return RowTemplateError(
        f"row {row.get('id')}: the chat template {problem}, so no loss mask can be trusted; supervise the last turn "
        "only (stages.sft.loss_on=completion), choose another chat template, or set stages.sft.on_template_error=drop"
    )


def _never_fits(problem: str) -> DataError:
    return DataError(
        f"the chat template cannot be trained on: {problem}; choose another chat template or stages.sft.template=plain"
    )

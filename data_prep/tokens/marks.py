"""What a chat template itself marks as the assistant's, by `{% generation %}` … `{% endgeneration %}`.

TRL's training templates are marked so, and some models ship marks of their own. The marks are taken as they are:
whoever wrote the template decided whether a thinking block or the line end behind an answer is learned.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Span = tuple[int, int]


def has_marks(template: str) -> bool:
    """Whether a chat template has `{% generation %}` marks."""
    return bool(_MARK.search(template))


def marked_spans(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    refusal: Callable[[Exception], Exception],
) -> tuple[str, list[Span]]:
    """The rendered text and its marked spans in characters; what the template raises is raised as `refusal` says.

    Marks that touch each other count as one: a template may mark the parts of an answer one by one.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    render: Any = render_jinja_template  # its annotation promises a text; it returns lists of texts and of spans
    try:
        texts, found = render(
            [messages],
            tools=tools,
            chat_template=str(tokenizer.chat_template),
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        raise refusal(error) from error
    return texts[0], _joined([(start, end) for start, end in found[0] if end > start])


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined

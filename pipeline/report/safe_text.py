"""Makes text of unknown origin (prompts, model output, file names, error messages) safe to show.

HTML escaping is Jinja's autoescape. This module adds what escaping does not cover: control and direction characters
that would change a terminal or reorder a line, and Markdown, which has no autoescape.
"""

import re
from typing import Any

_DIRECTION = {chr(code): f"⟨U+{code:04X}⟩" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_CONTROL = {chr(code): chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_C1 = {chr(code): f"⟨U+{code:04X}⟩" for code in range(0x80, 0xA0)}
_VISIBLE = str.maketrans(_DIRECTION | _CONTROL | _C1 | {"\x7f": "␡", "\u2028": "\n", "\u2029": "\n"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#$!])")
# GitHub turns bare addresses into links; a zero-width joiner after the scheme keeps them text
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp|www)(?=[:.])")


def visible(text: str) -> str:
    """Show control, escape and bidirectional override characters instead of obeying them; keep newlines and tabs."""
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").translate(_VISIBLE))


def visible_tree(value: Any) -> Any:
    """`visible` on every string of a JSON value, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): visible_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [visible_tree(item) for item in value]
    return value


class Markdown(str):
    """Text that is Markdown already, so that the template does not escape it again."""


def markdown(value: Any) -> Markdown:
    """Escape a value for one line of GitHub-flavoured Markdown (also inside a table cell)."""
    if isinstance(value, Markdown):
        return value
    text = "" if value is None else str(value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(r"\\\1", text).replace("\t", " ").replace("\n", " ↵ ")
    return Markdown(_ADDRESS.sub("\\1\u200d", text))


def fenced(text: str, language: str = "") -> Markdown:
    """A Markdown code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def shortened(text: str | None, limit: int) -> str:
    """At most `limit` characters; says how many are missing."""
    text = text or ""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters in report.json)"


def one_line(text: str | None) -> str:
    """Newlines and runs of white space as one space."""
    return " ".join((text or "").split())

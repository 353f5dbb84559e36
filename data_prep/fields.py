"""Single fields of a file's row, with what is said when one is missing or of another type."""

from collections.abc import Mapping
from typing import Any

from data_prep.chats import Turn, tools_of
from data_prep.rows import Row
from data_prep.templates import BrokenRow, type_name

Source = Mapping[str, Any]


def text_field(view: Source, name: str) -> str:
    """The text of a field; BrokenRow without one."""
    value = view.get(name)
    if isinstance(value, str):
        return value
    raise BrokenRow(f"{name} is {type_name(value)}, not text" if name in view else f"{name} is missing")


def optional_text(view: Source, name: str) -> str:
    """The text of a field that may be missing or null, which is the same as empty."""
    return "" if view.get(name) is None else text_field(view, name)


def tools_field(view: Source) -> Row:
    """`{"tools": …}` where a row has tools, else nothing."""
    tools = tools_of(view.get("tools"))
    return {"tools": tools} if tools else {}


def system_turn(text: str) -> list[Turn]:
    """A system prompt as the beginning of a chat; nothing when it is empty."""
    return [{"role": "system", "content": text}] if text else []


def user_turn(text: str) -> list[Turn]:
    """A prompt as a chat."""
    return [{"role": "user", "content": text}]


def answer_turn(text: str) -> list[Turn]:
    """An answer as the end of a chat."""
    return [{"role": "assistant", "content": text}]

"""Every text of a row, wherever it is nested: one walk for finding personal data and for replacing it.

A place within a row is named by a path such as `messages/0/content` or `tools/0/function/#2`: known names of the
format, positions in lists, and `#` with a position for other keys of an object, which may themselves be personal (`#2~`
is such a key). So a path never holds text of the row.
"""

import json
from collections.abc import Callable
from typing import Any

from data_prep.errors import DataError
from data_prep.rows import Row

TEXT_FIELDS = ("text", "prompt", "completion", "messages", "chosen", "rejected", "tools")
# What holds a turn together and is no text of anybody.
_STRUCTURE = frozenset({"role", "type", "id", "tool_call_id"})
_NO_HINTS = frozenset({"content", "text", "arguments", "value"})
_NAMES = frozenset(
    {*TEXT_FIELDS, *_STRUCTURE, *_NO_HINTS, "tool_calls", "function", "name", "description", "parameters", "properties"}
)
_SMALLEST_NUMBER = 10**6

Visit = Callable[[str, str, str], str]
"""Given the path of a text, its hint (the key of the object that holds it, which may say `phone`) and the text: what to
put there."""


def rewrite(row: Row, visit: Visit) -> Row:
    """A new row with what `visit` gives in place of each text; the given row stays as it is.

    Raises:
        DataError: the row is nested deeper than it can be walked.
    """
    try:
        return {name: _value(value, "", name, visit) if name in TEXT_FIELDS else value for name, value in row.items()}
    except RecursionError as error:
        raise DataError(f"row {row.get('id')}: nested too deeply to look for personal data; remove it") from error


def _value(value: Any, hint: str, path: str, visit: Visit) -> Any:
    """Strings, lists, objects with their keys, numbers (a card without quotes)."""
    if isinstance(value, str):
        return visit(path, hint, value)
    if isinstance(value, list):
        return [_value(each, hint, f"{path}/{position}", visit) for position, each in enumerate(value)]
    if isinstance(value, dict):
        return _object(value, path, visit)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SMALLEST_NUMBER:
        return _number(value, hint, path, visit)
    return value


def _object(value: dict[str, Any], path: str, visit: Visit) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for position, (key, each) in enumerate(value.items()):
        if key in _STRUCTURE and isinstance(each, str):
            clean[key] = each
            continue
        known = key in _NAMES
        place = f"{path}/{key}" if known else f"{path}/#{position}"
        if key == "arguments" and isinstance(each, str):
            clean[key] = _arguments(each, place, visit)
        else:
            free = key if known else _free_key(visit(f"{place}~", "", key), clean)
            clean[free] = _value(each, "" if key in _NO_HINTS else key, place, visit)
    return clean


def _arguments(arguments: str, path: str, visit: Visit) -> str:
    """The JSON text of a tool call's arguments; its values are looked at unescaped, and it stays JSON."""
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return visit(path, "", arguments)
    clean = _value(parsed, "", path, visit)
    return arguments if clean == parsed else json.dumps(clean, ensure_ascii=False)


def _number(value: int, hint: str, path: str, visit: Visit) -> int | str:
    clean = visit(path, hint, str(value))
    return int(clean) if clean.lstrip("-").isdigit() and str(int(clean)) == clean else clean


def _free_key(key: str, taken: dict[str, Any]) -> str:
    """The key, numbered when two masked keys became equal: no value may get lost."""
    number, free = 2, key
    while free in taken:
        free, number = f"{key} {number}", number + 1
    return free

"""The text of a row that is compared."""

import json
from typing import Any, Literal

from data_prep.rows import Row, parts_of, shape_of, text_of


def compared_text(row: Row, on: Literal["row", "prompt", "completion"]) -> str:
    """The text of a row that near-duplicate removal looks at; "" where the row has none of it.

    Calls of tools belong to a turn as their JSON: answers that differ in nothing else are not alike. The definitions
    of the tools do not: many dialogues share them.
    """
    if shape_of(row) == "chat":
        return "\n".join(_turn(turn) for turn in row["messages"] if on == "row" or _side(turn) == on)
    parts = parts_of(row)
    if "text" in parts:
        return parts["text"]
    parts = {side: _with_calls(row[side]) for side in parts}
    if on == "row":
        return "\n".join(parts.values())
    return parts["prompt"] if on == "prompt" else parts["chosen" if "chosen" in parts else "completion"]


def _side(turn: dict[str, Any]) -> str:
    return "completion" if turn["role"] == "assistant" else "prompt"


def _with_calls(side: str | list[dict[str, Any]]) -> str:
    return text_of(side) if isinstance(side, str) else "\n".join(map(_turn, side))


def _turn(turn: dict[str, Any]) -> str:
    calls = turn.get("tool_calls")
    content = turn["content"] or ""
    return content + "\n" + json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else content

"""The texts of a row that classifiers score, each with a name that a person finds again."""

from typing import Any

from data_prep.rows import Row, shape_of


def judged_parts(row: Row, field: str, rejected: bool = False) -> dict[str, str]:
    """Name → text, turn by turn for lists of messages: `text`, `prompt`, `turn 3 (assistant)`, `chosen turn 1 (…)`.

    Args:
        row: a canonical row.
        field: `all`, `prompt` or `completion` (the assistant's turns; of a preference row its answers). Text rows are
            judged by their text.
        rejected: whether the rejected side of a preference row is judged. It is bad by design.
    """
    shape = shape_of(row)
    if shape == "text":
        return {"text": row["text"]}
    if shape == "chat":
        return _turns(row["messages"], field)
    answers = ("completion",) if shape == "prompt_completion" else ("chosen", "rejected")[: 1 + rejected]
    parts: dict[str, str] = {}
    for side, kind in (("prompt", "prompt"), *((answer, "completion") for answer in answers)):
        if field in ("all", kind):
            parts |= {side: row[side]} if isinstance(row[side], str) else _turns(row[side], "all", f"{side} ")
    return parts


def _turns(messages: list[dict[str, Any]], field: str, prefix: str = "") -> dict[str, str]:
    return {
        f"{prefix}turn {number} ({turn['role']})": turn["content"]
        for number, turn in enumerate(messages, start=1)
        if turn.get("content") and (field == "all" or (turn["role"] == "assistant") == (field == "completion"))
    }

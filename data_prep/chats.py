"""Chat turns of the common file formats, brought to the form `{"role", "content", ...}` that chat templates read."""

import json
from typing import Any, cast

from data_prep.templates import BrokenRow, type_name

Turn = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


def turns_of(value: object, column: str) -> list[Turn]:
    """The turns in a `messages` or `conversations` column, in either form; BrokenRow names the turn that is wrong."""
    if not isinstance(value, list) or not value:
        raise BrokenRow(f"{column} is {'empty' if value == [] else type_name(value)}, not a list of turns")
    return [_turn(turn, f"{column}[{index}]") for index, turn in enumerate(cast(list[object], value))]


def tools_of(value: object) -> list[dict[str, Any]]:
    """The tools a chat may call, from a list or from JSON text; bare functions are wrapped as OpenAI writes them."""
    tools = _from_json(value, "tools") if isinstance(value, str) and value.strip() else value or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in cast(list[object], tools)):
        raise BrokenRow("tools is not a list of objects")
    listed = cast(list[dict[str, Any]], tools)
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in listed]


def pairs_to_turns(history: object) -> list[Turn]:
    """Alpaca's `history`, a list of [question, answer] pairs, as turns."""
    if history is not None and not isinstance(history, list):
        raise BrokenRow(f"history is {type_name(history)}, not a list of pairs")
    turns: list[Turn] = []
    for index, pair in enumerate(cast(list[object], history or [])):
        if not isinstance(pair, list) or [type(side) for side in cast(list[object], pair)] != [str, str]:
            raise BrokenRow(f"history[{index}] is not a [question, answer] pair of texts")
        question, answer = cast(list[str], pair)
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def check_chat(turns: list[Turn], column: str) -> None:
    """BrokenRow unless a chat can be trained on: the user begins, no role speaks twice, the assistant answers."""
    _check_order(turns, column)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BrokenRow(f"{column} has no turn of the assistant, so there is nothing to learn")


def check_prompt(turns: list[Turn], column: str) -> None:
    """BrokenRow unless the turns can be answered: the user begins, no role speaks twice, the assistant is next."""
    _check_order(turns, column)
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        last = f"ends with a turn of the role {turns[-1]['role']}" if turns else "is empty"
        raise BrokenRow(f"{column} {last}, so it does not ask for an answer")


def check_answers(turns: list[Turn], column: str) -> None:
    """BrokenRow unless the turns answer a prompt: the assistant begins, no role speaks twice, something is said."""
    if not turns or turns[0]["role"] != "assistant":
        found = f"goes on with a turn of the role {turns[0]['role']}" if turns else "is empty"
        raise BrokenRow(f"{column} {found} after the prompt that it shares, not with the assistant's answer")
    _check_repeats(turns, column)
    if not any(turn["content"].strip() or turn.get("tool_calls") for turn in turns if turn["role"] == "assistant"):
        raise BrokenRow(f"{column} is empty")


def common_turns(one: list[Turn], other: list[Turn]) -> list[Turn]:
    """The turns that two dialogues begin with, always short of the last turn of either."""
    room = min(len(one), len(other)) - 1
    return one[: next((at for at in range(room) if one[at] != other[at]), room)]


def _check_order(turns: list[Turn], column: str) -> None:
    first = next((turn["role"] for turn in turns if turn["role"] not in ("system", "developer")), "user")
    if first != "user":
        raise BrokenRow(f"{column} begins with a turn of the role {first}, not with the user's")
    _check_repeats(turns, column)


def _check_repeats(turns: list[Turn], column: str) -> None:
    for index, (before, turn) in enumerate(zip(turns, turns[1:], strict=False), start=1):
        # Several tools may answer one call each.
        if turn["role"] == before["role"] != "tool":
            raise BrokenRow(f"{column}[{index}] repeats the role {turn['role']}; join the two turns")


def _turn(value: object, place: str) -> Turn:
    if not isinstance(value, dict):
        raise BrokenRow(f"{place} is {type_name(value)}, not an object with role and content")
    # Parquet and Arrow give every turn the keys of all turns, null where a turn had none.
    turn = {key: entry for key, entry in cast(Turn, value).items() if entry is not None}
    return _openai_turn(turn, place) if "role" in turn or "from" not in turn else _sharegpt_turn(turn, place)


def _openai_turn(turn: Turn, place: str) -> Turn:
    if turn.get("role") not in ROLES:
        raise BrokenRow(f"{place}.role is {turn.get('role')!r}, not one of {', '.join(ROLES)}")
    content = turn.get("content", "" if turn.get("tool_calls") else None)
    if not isinstance(content, str):
        raise BrokenRow(f"{place}.content is {'missing' if content is None else type_name(content)}, not text")
    return {"role": turn["role"], "content": content, **{k: v for k, v in turn.items() if k not in ("role", "content")}}


def _sharegpt_turn(turn: Turn, place: str) -> Turn:
    speaker, value = turn["from"], turn.get("value")
    if not isinstance(speaker, str) or speaker not in SHAREGPT_ROLES:
        raise BrokenRow(f"{place}.from is {speaker!r}, not one of {', '.join(SHAREGPT_ROLES)}")
    if not isinstance(value, str):
        raise BrokenRow(f"{place}.value is {'missing' if value is None else type_name(value)}, not text")
    if speaker != "function_call":
        return {"role": SHAREGPT_ROLES[speaker], "content": value}
    found = _from_json(value, f"{place}.value")
    calls = cast(list[object], found if isinstance(found, list) else [found])
    if not calls or not all(isinstance(call, dict) and "name" in call for call in calls):
        raise BrokenRow(f"{place}.value is a function call without a name")
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }


def _from_json(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenRow(f"{place} is not JSON ({error})") from error

"""Answers that were judged: pairs of a chosen and a rejected one (DPO), and single ones with a label (KTO).

The forms in use: TRL's (a prompt beside both answers, or both dialogues whole), HH-RLHF transcripts
(arXiv 2204.05862), UltraFeedback (a prompt beside whole dialogues), LLaMA-Factory's alpaca and sharegpt rows.
"""

import re
from typing import Any, cast

from data_prep.chats import Turn, check_answers, check_prompt, common_turns, pairs_to_turns, turns_of
from data_prep.fields import (
    Source,
    optional_text,
    system_turn,
    text_field,
    tools_field,
    user_turn,
)
from data_prep.rows import Row
from data_prep.templates import BrokenRow, PromptTemplate, type_name

Side = str | list[Turn]

_TRANSCRIPT = re.compile(r"\s*\n\n(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_LABELS: dict[object, bool] = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


def adapt_preference(view: Source, template: PromptTemplate | None) -> Row:
    """`chosen` and `rejected` beside a `prompt`, or with the prompt as their common beginning."""
    chosen, rejected = _side(view, "chosen"), _side(view, "rejected")
    prompt = template.fill(view) if template else view.get("prompt")
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        if _TRANSCRIPT.match(chosen) and _TRANSCRIPT.match(rejected):
            return _pair(None, transcript_turns(chosen, "chosen"), transcript_turns(rejected, "rejected"), view)
        return _pair(*_common_text(chosen, rejected), view)
    if isinstance(prompt, list):
        prompt = turns_of(prompt, "prompt")
    elif prompt is not None and not isinstance(prompt, str):
        raise BrokenRow(f"prompt is {type_name(prompt)}, neither text nor turns")
    return _pair(prompt, chosen, rejected, view)


def adapt_hh_rlhf(view: Source, template: PromptTemplate | None) -> Row:
    """Two transcripts of `Human:` and `Assistant:` that begin alike."""
    sides = [transcript_turns(text_field(view, name), name) for name in ("chosen", "rejected")]
    return _pair(None, sides[0], sides[1], view)


def adapt_alpaca_preference(view: Source, template: PromptTemplate | None) -> Row:
    """An alpaca instruction with a chosen and a rejected output."""
    prompt, before = alpaca_prompt(view, None)
    return _pair(
        [*before, *user_turn(prompt)] if before else prompt, _side(view, "chosen"), _side(view, "rejected"), view
    )


def adapt_sharegpt_preference(view: Source, template: PromptTemplate | None) -> Row:
    """A conversation that ends before the answer, with a chosen and a rejected next turn."""
    turns = turns_of(view.get("conversations"), "conversations")
    prompt = [*system_turn(optional_text(view, "system")), *turns]
    return _pair(prompt, _side(view, "chosen"), _side(view, "rejected"), view)


def adapt_kto(view: Source, template: PromptTemplate | None) -> Row:
    """One answer, good or bad: `prompt` and `completion`, or a chat whose last turn was judged."""
    label = _LABELS.get(cast(object, view.get("label")) if _is_plain(view.get("label")) else None)
    if label is None:
        raise BrokenRow(f"label is {_shown(view, 'label')}, not true or false")
    chat = next((name for name in ("messages", "conversations") if name in view), None)
    if chat is None or "completion" in view:
        prompt = template.fill(view) if template else view.get("prompt")
        prompt = turns_of(prompt, "prompt") if isinstance(prompt, list) else _needed(prompt, "prompt")
        completion = _side(view, "completion")
    else:
        turns = [*system_turn(optional_text(view, "system")), *turns_of(view[chat], chat)]
        if turns[-1]["role"] != "assistant":
            raise BrokenRow(f"{chat} ends with a turn of the role {turns[-1]['role']}, so there is no answer to judge")
        prompt, completion = turns[:-1], turns[-1:]
    if not (isinstance(prompt, str) and isinstance(completion, str)):
        prompt, completion = _turns(prompt, "user"), _turns(completion, "assistant")
        check_prompt(prompt, "prompt")
        check_answers(completion, "completion")
    return {"prompt": prompt, "completion": completion, "label": label, **tools_field(view)}


def alpaca_prompt(view: Source, template: PromptTemplate | None) -> tuple[str, list[Turn]]:
    """The prompt of an alpaca row, and the turns that stand before it."""
    extra = optional_text(view, "input")
    if template:
        prompt = template.fill({**view, "input": extra})
    else:
        prompt = text_field(view, "instruction") + (f"\n\n{extra}" if extra else "")
    return prompt, [*system_turn(optional_text(view, "system")), *pairs_to_turns(view.get("history"))]


def transcript_turns(text: str, column: str) -> list[Turn]:
    """The turns of an HH-RLHF transcript: `\\n\\nHuman: … \\n\\nAssistant: …`."""
    first = _TRANSCRIPT.match(text if text.startswith("\n\n") else f"\n\n{text}")
    if first is None:
        raise BrokenRow(f"{column} is no transcript: it does not begin with a blank line and Human:")
    _, *pieces = re.split(r"\n\n(Human|Assistant):", text if text.startswith("\n\n") else f"\n\n{text}")
    return [
        {"role": _SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _pair(prompt: Side | None, chosen: Side, rejected: Side, view: Source) -> Row:
    """A preference row, all texts or all turns; BrokenRow when it cannot be learned from."""
    if not (isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str)):
        prompt, chosen, rejected = _dialogues(prompt, _turns(chosen, "assistant"), _turns(rejected, "assistant"))
    elif not prompt.strip():
        raise BrokenRow("prompt is empty")
    if chosen == rejected or (isinstance(chosen, str) and chosen.strip() == cast(str, rejected).strip()):
        raise BrokenRow("chosen and rejected are equal, so there is nothing to prefer")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **tools_field(view)}


def _dialogues(prompt: Side | None, chosen: list[Turn], rejected: list[Turn]) -> tuple[list[Turn], ...]:
    """Prompt and answers as turns; dialogues that hold the prompt lose it."""
    answers_only = chosen[0]["role"] == rejected[0]["role"] == "assistant"
    if prompt is not None and answers_only:
        shared = _turns(prompt, "user")
    else:
        shared = common_turns(chosen, rejected)
        _check_shared(prompt, shared)
        chosen, rejected = chosen[len(shared) :], rejected[len(shared) :]
    check_prompt(shared, "prompt")
    check_answers(chosen, "chosen")
    check_answers(rejected, "rejected")
    return shared, chosen, rejected


def _check_shared(prompt: Side | None, shared: list[Turn]) -> None:
    if not shared:
        raise BrokenRow("chosen and rejected do not share a prompt: their first turns differ")
    if isinstance(prompt, str):
        same = any(turn["role"] == "user" and turn["content"].strip() == prompt.strip() for turn in shared)
    else:
        same = prompt is None or shared[: len(prompt)] == prompt
    if not same:
        raise BrokenRow("chosen and rejected do not share the prompt: it is not among the turns they begin with")


def _common_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Two whole texts as prompt and answers, cut as TRL cuts them; a space before the answers belongs to these."""
    if chosen == rejected:
        raise BrokenRow("chosen and rejected are equal, so there is nothing to prefer")
    shorter = min(len(chosen), len(rejected)) - 1
    end = next((at for at in range(shorter) if chosen[at] != rejected[at]), shorter)
    if end > 0 and chosen[end] != rejected[end] and chosen[end - 1] == " ":
        end -= 1
    if not chosen[:end].strip():
        raise BrokenRow("chosen and rejected do not share a prompt: they begin differently")
    return chosen[:end], chosen[end:], rejected[end:]


def _side(view: Source, name: str) -> Side:
    """An answer: text, one turn, or a list of turns; BrokenRow when it is missing or says nothing."""
    value = view.get(name)
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return turns_of(value, name)
    return _needed(value, name) if name in view else _needed(None, name, "missing")


def _needed(value: Any, name: str, otherwise: str = "") -> str:
    if not isinstance(value, str):
        raise BrokenRow(f"{name} is {otherwise or type_name(value)}, neither text nor turns")
    if not value.strip():
        raise BrokenRow(f"{name} is empty")
    return value


def _turns(side: Side | None, role: str) -> list[Turn]:
    return [{"role": role, "content": side}] if isinstance(side, str) else side or []


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, str))


def _shown(view: Source, name: str) -> str:
    return "missing" if name not in view else repr(view[name])[:40]

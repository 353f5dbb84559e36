"""Which choice an answer in free text names: stated rules, in order, and None where none of them holds."""

import re
from collections.abc import Sequence

from eval.choice.prompts import LETTERS

LETTER_POLICY = (
    "letter read from the answer: the last 'answer is X' or 'answer: X', else a letter that begins the answer alone or "
    "before .):, else the only letter in brackets, else the only choice whose text stands in it; otherwise unanswered"
)
# A or B, A and B: no choice was made.
_HEDGED = re.compile(r"[\s).*\"']*(?:or|and)\b")


def read_letter(output: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that `output` names."""
    letters = f"[{LETTERS[: len(choices)]}]"
    stated = re.findall(rf"(?i:answer\s*(?:is|:)\s*:?)\s*[(*\"']*({letters})(?![\w'])", output)
    if stated:
        return LETTERS.index(stated[-1])
    text = output.strip().lstrip("*\"'(")
    begins = re.match(rf"({letters})(?:[.):,*\"']|\s*$|\s*\n)", text)
    if begins and not _HEDGED.match(text, begins.end()):
        return LETTERS.index(begins[1])
    bracketed = set(re.findall(rf"\(({letters})\)", output))
    if len(bracketed) == 1:
        return LETTERS.index(bracketed.pop())
    return _named_choice(output, choices)


def _named_choice(output: str, choices: Sequence[str]) -> int | None:
    """The only choice whose words stand in the text; a choice inside another one that stands there does not count."""
    text = _plain(output)
    found = [index for index, choice in enumerate(choices) if f" {_plain(choice)} " in f" {text} "]
    whole = [
        index
        for index in found
        if not any(other != index and f" {_plain(choices[index])} " in f" {_plain(choices[other])} " for other in found)
    ]
    return whole[0] if len(whole) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w]+", " ", text.casefold()).split())

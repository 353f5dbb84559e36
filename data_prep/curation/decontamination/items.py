"""The texts of evaluation items that are looked for."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.text import clean, word_spans, words_in
from data_prep.rows import SPLITS, Row, iterate_rows, parts_of

FIRST_OPTION = re.compile(r"(?:^|\n)[ \t]*(\(A\)|\(a\)|A\.|A\)|A:|a\))\s|\s(\(A\))\s")
"""Where the options of a multiple-choice question begin: on lines of their own, or in brackets."""

TEMPLATE_ITEMS = 8
"""Fewest items of a data set whose common beginning or end is taken for a template."""

TEMPLATE_WORDS = 400
"""Longest beginning or end that is looked at: few-shot examples in front of a question are long."""


class Unit(NamedTuple):
    """One text of one item."""

    dataset: str
    item: str
    side: str
    text: str
    """Cleaned, without options and template."""
    words: list[str]
    question: int = 0
    """First words that must be found too: a question so short that it is looked for with its options."""


def units_of(folders: dict[str, Path], config: Decontamination) -> Iterator[Unit]:
    """The units of all rows of the data sets, in the order of their names, splits and rows."""
    for dataset, folder in sorted(folders.items()):
        rows = (row for split in SPLITS for row in iterate_rows(folder, split))
        yield from dataset_units(dataset, rows, config)


def dataset_units(dataset: str, rows: Iterable[Row], config: Decontamination) -> list[Unit]:
    """The units of one data set, side by side, without what most of its items begin or end with."""
    by_part = dict[str, list[tuple[str, str]]]()
    for row in rows:
        texts = {part: clean(text) for part, text in parts_of(row).items()}
        for part, text in texts.items():
            side = part if part in ("text", "prompt") else "completion"
            if side not in (config.sides, "text") and config.sides != "all":
                continue
            # An answer that the prompt shows is one of its options, and alone gives nothing away.
            if side == "prompt" or text.strip() not in texts.get("prompt", ""):
                by_part.setdefault(part, []).append((str(row["id"]), text))
    return [unit for part, items in by_part.items() for unit in _units(dataset, part, items, config)]


def _units(dataset: str, part: str, items: list[tuple[str, str]], config: Decontamination) -> Iterator[Unit]:
    cuts = [stem(text, config.whole_below) for _, text in items]
    spans = [word_spans(text[: cut.end]) for (_, text), cut in zip(items, cuts, strict=True)]
    words = [words_in(text, span) for (_, text), span in zip(items, spans, strict=True)]
    heads, tails = _templates(words), _templates([each[::-1] for each in words])
    for number, (item, text) in enumerate(items):
        head, tail, each, (starts, ends) = heads[number], tails[number], words[number], spans[number]
        if head + tail >= len(each):
            head = tail = 0
        kept = each[head : len(each) - tail]
        inner = text[int(starts[head]) : int(ends[len(each) - tail - 1])] if kept else ""
        question = int((starts < cuts[number].question).sum()) - head
        yield Unit(dataset, item, part, inner, kept, min(max(question, 0), len(kept)))


class Stem(NamedTuple):
    """What is looked for of a text."""

    end: int
    """Its first characters so far."""
    question: int
    """Of these, the first so many must be among what is found; 0: no matter which."""


def stem(text: str, fewest: int) -> Stem:
    """A question without its options, or with them when it has fewer words by itself; any other text as it is."""
    start = options_start(text)
    if start is None:
        return Stem(len(text), 0)
    return Stem(start, 0) if len(text[:start].split()) >= fewest else Stem(len(text), start)


def options_start(text: str) -> int | None:
    """Where the options of a multiple-choice question begin; None: there are none."""
    first = FIRST_OPTION.search(text)
    if not first:
        return None
    label = first.group(1) or first.group(2)
    second = label.replace("A", "B").replace("a", "b")
    border = r"\n[ \t]*" if first.group(1) else r"\s"
    return first.start() if re.search(border + re.escape(second) + r"\s", text[first.end() - 1 :]) else None


def _templates(items: Sequence[list[str]]) -> list[int]:
    """Per item, how many of its first words more than half of the items begin with."""
    lengths = [0] * len(items)
    if len(items) < TEMPLATE_ITEMS:
        return lengths
    alive, prefixes, numbers = list(range(len(items))), [0] * len(items), dict[tuple[int, str], int]()
    for length in range(1, TEMPLATE_WORDS + 1):
        alive = [at for at in alive if len(items[at]) >= length]
        for at in alive:
            prefixes[at] = numbers.setdefault((prefixes[at], items[at][length - 1]), len(numbers) + 1)
        counts = Counter(prefixes[at] for at in alive)
        alive = [at for at in alive if 2 * counts[prefixes[at]] > len(items)]
        if not alive:
            break
        for at in alive:
            lengths[at] = length
    return lengths

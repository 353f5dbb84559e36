"""Leaks of evaluation items in many guises, and texts that look like leaks and are none."""

import html
import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_prep.curation.decontamination.items import options_start
from data_prep.rows import Row, completion_text, prompt_text, text_of

CHANGED_SHARE = 0.1
"""Largest share of the words that a light paraphrase changes."""
SHORTEST = 10
"""Fewest words of a question that is planted alone: shorter ones are everybody's."""

_NUMBER = re.compile(r"\d+")
_SPACES = re.compile(r" ")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_OPTION_LINE = re.compile(r"\s+(?=\(?[A-J][.):]\s)")
_LABEL = re.compile(r"^\s*\(?[A-J][.):]\s+")


class Item(NamedTuple):
    """One evaluation item as plain text."""

    dataset: str
    item: str
    question: str
    """The prompt without options; the text of a text row."""
    options: list[str]
    answer: str


def item_of(dataset: str, row: Row) -> Item:
    """The item that a canonical row of an evaluation is."""
    question = row["text"] if "text" in row else prompt_text(row)
    start, options = options_start(question), list[str]()
    if start is not None:
        options = [_LABEL.sub("", each).strip() for each in _OPTION_LINE.split(question[start:])]
        question, options = question[:start], [each for each in options if each]
    answer = "" if "text" in row else completion_text(row) or text_of(row.get("chosen", ""))
    return Item(dataset, str(row["id"]), question.strip(), options, answer.strip())


Variation = Callable[[Item, random.Random], str]


def _both(item: Item, draw: random.Random) -> str:
    return f"{item.question}\n{item.answer}".strip()


def _question(item: Item, draw: random.Random) -> str:
    return item.question


def _lower(item: Item, draw: random.Random) -> str:
    return _both(item, draw).lower()


def _upper(item: Item, draw: random.Random) -> str:
    return _both(item, draw).upper()


def _without_punctuation(item: Item, draw: random.Random) -> str:
    return " ".join(_PUNCTUATION.sub(" ", _both(item, draw).replace("'", "").replace("’", "")).split())


def _spaced(item: Item, draw: random.Random) -> str:
    return _SPACES.sub(lambda _: draw.choice((" ", "  ", "\n", " \t", "\u00a0", "\u2009")), _both(item, draw))


def _typeset(item: Item, draw: random.Random) -> str:
    text = re.sub(r'"([^"]*)"', r"“\1”", _both(item, draw))
    return text.replace("'", "’").replace("-", "–").replace("...", "…").replace("fi", "ﬁ")


def _escaped(item: Item, draw: random.Random) -> str:
    return html.escape(_both(item, draw).replace("’", "'")).replace("\n", "<br>\n")


def _reordered(item: Item, draw: random.Random) -> str:
    options = list(item.options)
    draw.shuffle(options)
    lines = [f"{letter}) {option}" for letter, option in zip("ABCDEFGHIJ", options, strict=False)]
    return "\n".join([item.question, *lines, f"Answer: {item.answer}"])


def _paraphrased(item: Item, draw: random.Random) -> str:
    # Numbers stay: a problem with other numbers is another problem.
    words = item.question.split(" ")
    changeable = [at for at, word in enumerate(words) if not any(map(str.isdigit, word))]
    changed = draw.sample(changeable, min(int(CHANGED_SHARE * len(words)), len(changeable)))
    for at in changed:
        words[at] = draw.choice(("indeed", "really", "thing", "other", "quite", "perhaps", "such"))
    return " ".join(words)


VARIATIONS: dict[str, Variation] = {
    "question": _question,
    "question and answer": _both,
    "lower case": _lower,
    "upper case": _upper,
    "no punctuation": _without_punctuation,
    "other spaces": _spaced,
    "typeset": _typeset,
    "html escapes": _escaped,
    "options reordered": _reordered,
    "light paraphrase": _paraphrased,
}


def can_vary(item: Item, variation: str) -> bool:
    """Whether the item is long enough to be a leak in this guise, and has what the guise changes."""
    if variation == "options reordered" and not item.options:
        return False
    if variation == "light paraphrase" and len(item.question.split()) * CHANGED_SHARE < 1:
        return False
    return len(item.question.split()) >= SHORTEST


def embed(text: str, host: str, draw: random.Random) -> str:
    """The text as a paragraph of a longer one, at a border of its sentences."""
    borders = [match.end() for match in re.finditer(r"[.!?\n]\s+", host)] or [len(host)]
    at = draw.choice(borders)
    return f"{host[:at].rstrip()}\n\n{text}\n\n{host[at:].lstrip()}".strip()


def _beginning(item: Item, hosts: Sequence[str], draw: random.Random) -> str | None:
    """A question that begins like the item and goes on otherwise: half of it, and at most 40 words."""
    words, other = item.question.split(), draw.choice(hosts).split()
    half = min(len(words) // 2, 40)
    if half < 3 or len(other) < len(words):
        return None
    at = draw.randrange(len(other) - (len(words) - half) + 1)
    return " ".join(words[:half] + other[at : at + len(words) - half])


def _other_numbers(item: Item, hosts: Sequence[str], draw: random.Random) -> str | None:
    """The same wording with other numbers: another problem."""
    if len(_NUMBER.findall(item.question)) < 2:
        return None
    return _NUMBER.sub(lambda found: str(int(found.group()[:9]) + draw.randrange(1, 90)), item.question)


def _options(item: Item, hosts: Sequence[str], draw: random.Random) -> str | None:
    """The options under another question."""
    if not item.options:
        return None
    sentence = re.split(r"(?<=[.?!])\s", draw.choice(hosts))[0]
    return "\n".join([sentence, *(f"{a}. {b}" for a, b in zip("ABCDEFGHIJ", item.options, strict=False))])


def _excerpt(item: Item, hosts: Sequence[str], draw: random.Random) -> str | None:
    """A quotation of the item: less than 40 % of it, and at most 40 words, in another text."""
    words, host = item.question.split(), draw.choice(hosts)
    size = min(int(0.4 * len(words)), 40)
    if size < 3:
        return None
    at = draw.randrange(len(words) - size + 1)
    return embed(" ".join(words[at : at + size]), host, draw)


def _template(item: Item, hosts: Sequence[str], draw: random.Random) -> str | None:
    """What questions begin with, about something else."""
    words = draw.choice(hosts).split()
    if len(words) < 12:
        return None
    at = draw.randrange(len(words) - 11)
    opening = draw.choice(("Which of the following best describes", "Which of these is an example of", "What is the"))
    return f"Question: {opening} {' '.join(words[at : at + 8])}?\nAnswer: {' '.join(words[at + 8 : at + 12])}"


Lookalike = Callable[[Item, Sequence[str], random.Random], str | None]

LOOKALIKES: dict[str, Lookalike] = {
    "same beginning": _beginning,
    "other numbers": _other_numbers,
    "same options": _options,
    "quotation": _excerpt,
    "question template": _template,
}
"""Texts made from an item (and texts of other rows) that do not give it away; None where it has not what it takes."""

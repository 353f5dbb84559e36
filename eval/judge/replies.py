"""What a judge said, and how a written verdict is read: strictly where possible, never by guessing."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_ALONE = r"(?:(?:the\s+)?(?:answer|option|verdict)\s*:?\s+)?({labels})"
# What follows the label must end the phrase: `A or B`, `A | B` and `a draw` are no verdicts.
_MARKED = (
    r"\[\[\s*({labels})\s*\]\]"
    r"|\bverdict[\"'*_`]*\s*(?:is\b|[:=])[\s\"'*_`\[(]*({labels})(?=[\"'*_`\])]*\s*(?:[,;}}\n]|\.(?!\d)|$))"
)


@dataclass(frozen=True)
class Reply:
    """A verdict (`label`) or the reason why there is none (`failure`)."""

    label: str | None = None
    probabilities: dict[str, float] | None = None
    rationale: str | None = None
    failure: str | None = None


def read_reply(text: str, labels: Sequence[str], cut: bool = False) -> Reply:
    """The verdict in what a judge wrote: a JSON object, else JSON inside the text, else one marked verdict.

    Two different verdicts are a failure. `cut`: the text was ended by its length limit.
    """
    visible = _THOUGHT.sub("", text).strip()
    if not visible:
        return Reply(failure="empty reply")
    objects = [*_objects(visible)]
    found = [_canonical(value["verdict"], labels) for value in objects] or _marked(visible, labels)
    verdicts = {label for label in found if label is not None}
    if len(verdicts) == 1:
        rationale = objects[-1].get("rationale") if objects else None
        return Reply(label=verdicts.pop(), rationale=rationale if isinstance(rationale, str) else None)
    if verdicts:
        return Reply(failure="two different verdicts in one reply")
    return Reply(failure="cut before the verdict" if cut else "no verdict in the reply")


def _objects(text: str) -> Iterator[dict[str, object]]:
    """The JSON objects in the text that speak of a verdict, outermost only."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if "verdict" in value:
            yield value
        start = text.find("{", end)


def _marked(text: str, labels: Sequence[str]) -> list[str]:
    """Labels behind the word verdict or in double brackets; or the whole text, when it is one label."""
    # The longest first, so that "10" is not read as "1".
    ordered = "|".join(sorted(map(re.escape, labels), key=len, reverse=True))
    whole = re.fullmatch(_ALONE.format(labels=ordered), text.strip(" \n\t.\"'*`()[]"), re.IGNORECASE)
    marked = [whole] if whole else re.finditer(_MARKED.format(labels=ordered), text, re.IGNORECASE)
    spelt = [next(group for group in found.groups() if group) for found in marked]
    return [label for text in spelt if (label := _canonical(text, labels))]


def _canonical(value: object, labels: Sequence[str]) -> str | None:
    """The label that a value spells, in whatever case; a number counts as its digits."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    spelt = str(value).strip().casefold()
    return next((label for label in labels if label.casefold() == spelt), None)

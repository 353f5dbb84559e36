"""IBANs and national numbers with letters, found where a capital meets two digits."""

import re
from collections.abc import Iterator
from functools import cache

from data_prep.curation.pii import national
from data_prep.curation.pii.borders import stands_alone
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.spans import Span

_HIT = re.compile(r"[A-Z][ -]?[0-9]{2}")
_GAPS = re.compile("[ -]")
_CLASSES = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
_LETTERS_TO_NUMBERS = {ord(letter): str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_DNI = re.compile(national.DNI.free or "")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_NO_DIGIT = re.compile("[^0-9]+")
# How many characters before the capital each number begins.
_OFFSETS = {"gb_nino": 1, "es_nie": 0, "it_codicefiscale": 5}


def find_lettered(text: str, config: Pii) -> Iterator[Span]:
    """The IBANs and the national numbers of a text that begin with letters."""
    ids = config.national_ids if "national_id" in config.kinds else []
    rules = [(name, _pattern(name), _OFFSETS[name]) for name in ids if name in national.LETTER_RULES]
    ibans = "iban" in config.kinds
    for hit in _HIT.finditer(text) if rules or ibans else ():
        at = hit.start()
        if ibans and at and (span := _iban(text, at - 1)):
            yield span
        for name, pattern, offset in rules:
            found = pattern.match(text, at - offset) if at >= offset else None
            if found and stands_alone(text, *found.span()) and national.is_valid(name, found[0]):
                yield Span(*found.span(), "national_id", national.RULES[name].score, name)


def find_dni(text: str, start: int, end: int) -> Iterator[Span]:
    """The Spanish numbers in a run of digits, whose letter stands after it."""
    for found in _DNI.finditer(text, start, end + 2):
        # The letter first: the library's whole check of every number in a list of them takes a second per megabyte.
        if _DNI_LETTERS[int(_NO_DIGIT.sub("", found[0])) % 23] != found[0][-1].upper():
            continue
        if stands_alone(text, *found.span()) and national.is_valid("es_dni", found[0]):
            yield Span(*found.span(), "national_id", national.DNI.score, "es_dni")


def is_iban(compact: str) -> bool:
    """Whether an IBAN has its country's length and form and the remainder 1 (ISO 13616)."""
    pattern = _iban_patterns().get(compact[:2])
    return bool(pattern and pattern.fullmatch(compact)) and _remainder(compact) == 1


def _iban(text: str, start: int) -> Span | None:
    pattern = _iban_patterns().get(text[start : start + 2])
    found = pattern.match(text, start) if pattern else None
    if not found or not stands_alone(text, *found.span()) or _remainder(_GAPS.sub("", found[0])) != 1:
        return None
    return Span(*found.span(), "iban", 0.98, text[start : start + 2])


def _remainder(compact: str) -> int:
    return int((compact[4:] + compact[:4]).translate(_LETTERS_TO_NUMBERS)) % 97


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(national.RULES[name].free or "")


@cache
def _iban_patterns() -> dict[str, re.Pattern[str]]:
    """By country: the letters and digits of its IBANs, with single spaces or hyphens between."""
    from stdnum import numdb

    patterns: dict[str, re.Pattern[str]] = {}
    for first in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        for second in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            info = numdb.get("iban").info(first + second)[0][1]
            if "bban" in info:
                parts = re.findall(r"([0-9]+)!([nac])", info["bban"])
                body = "".join(rf"(?:[ -]?{_CLASSES[kind]}){{{length}}}" for length, kind in parts)
                patterns[first + second] = re.compile(rf"[A-Z]{{2}}[0-9]{{2}}{body}")
    return patterns

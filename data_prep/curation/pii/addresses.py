"""Postal addresses that can be told by their form: street and number, flat, box, military post, British postcode."""

import re
from collections.abc import Iterator

from data_prep.curation.pii.spans import Span
from data_prep.curation.pii.vocabulary import words

_TYPES = (
    "Street|Avenue|Road|Boulevard|Lane|Drive|Court|Place|Square|Terrace|Crescent|Highway|Parkway|St|Ave|Rd|Blvd|Ln|Dr|Ct|Pl|Sq"
    "|Hwy|Pkwy|Way|Close|Gardens|Grove|Heights|Row|Mews"
)


def _any(choices: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, choices))


_CAPITAL = r"[A-ZÀ-ÖØ-Þ][\w'’.-]{0,30}"
# The first character stands before what must not precede it: so the search skips all others at once.
_NUMBER_FIRST = re.compile(
    rf"[0-9](?<![\w.,/-].)[0-9]{{0,5}}[A-Za-z]?(?:[ ,]{{1,2}}[0-9]{{1,5}})? (?:{_CAPITAL} ){{1,4}}(?:{_TYPES})\b\.?"
)
_SUFFIXES = words("straße strasse str. gasse weg platz allee vej gata gatan vägen straat laan tie katu")
_PREFIXES = words("Via Viale Vicolo Piazza Rua Calle Avenida Av. Rue rue Avenue Boulevard Place ul. ulica Strada Rúa")
_SUFFIXED = re.compile(rf"[A-ZÀ-ÖØ-Þ](?<!\w.)[\w-]{{2,30}}(?:{_any(_SUFFIXES)}),? [0-9]{{1,5}}[A-Za-z]?\b")
_PREFIXED = re.compile(
    rf"\b(?:{_any(_PREFIXES)})(?: (?:de|du|des|della|del|da|do|la|le|dos|das))?(?: [A-ZÀ-ÖØ-Þ][\w'’.-]{{1,30}}){{1,4}}"
    r",? [0-9]{1,5}[A-Za-z]?\b"
)
_FLATS = words("Apt Suite Ste Unit Flat Room Apartment")
_FLAT = re.compile(rf"\b(?:{_any(_FLATS)})\b\.? #?[0-9]{{1,5}}[A-Za-z]?\b")
_BOX = re.compile(r"\b(?:P\. ?O\. ?Box|PO Box|Postfach|Box|PSC) [0-9]{1,6}\b(?:,? Box [0-9]{1,6}\b)?")
_MILITARY = re.compile(r"\b(?:APO|FPO|DPO),? (?:AA|AE|AP) [0-9]{5}\b(?:-[0-9]{4}\b)?")
_POSTCODE = re.compile(r"[A-Z](?<!\w.)[A-Z]?[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2}\b")
_PATTERNS = (
    (_NUMBER_FIRST, 0.8, "street", ()),
    (_SUFFIXED, 0.8, "street", _SUFFIXES),
    (_PREFIXED, 0.8, "street", tuple(f"{each} " for each in _PREFIXES)),
    (_FLAT, 0.6, "flat", _FLATS),
    (_BOX, 0.6, "box", ("Box ", "Postfach ", "PSC ")),
    (_MILITARY, 0.95, "military", ("APO", "FPO", "DPO")),
    (_POSTCODE, 0.7, "postcode", ()),
)
"""Pattern, score, rule, and words of which the text must hold one: looking for those is what costs little."""


def find_addresses(text: str) -> Iterator[Span]:
    """Parts of postal addresses; those that stand together become one finding."""
    for pattern, score, rule, needed in _PATTERNS:
        if needed and not any(word in text for word in needed):
            continue
        for hit in pattern.finditer(text):
            # The point of St. belongs to it, that after Street ends a sentence.
            end = hit.end() - 1 if hit[0].endswith(".") and len(hit[0].rsplit(" ", 1)[-1]) > 5 else hit.end()
            yield Span(hit.start(), end, "address", score, rule)

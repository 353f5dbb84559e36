"""Cards, phone and national numbers in runs of at least seven digits."""

import re
from collections.abc import Iterator, Set
from functools import cache

from data_prep.curation.pii import national, phones
from data_prep.curation.pii.borders import stands_alone
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.lettered import find_dni
from data_prep.curation.pii.spans import Span
from data_prep.curation.pii.vocabulary import words

_RUN = re.compile(r"[0-9](?:[ ().\-/\u00a0\u2011\u2013]{0,2}[0-9]){6,}")
_NOT_DIGITS = re.compile(r"[^0-9]+")
_WORD = re.compile(r"[^\W\d_]+")
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][-.])(?:[0-9]{12,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9])(?![-.][0-9])"
)
# Issuers and the lengths they use. Maestro's 50, 56-58 and 6 are too common to count without a word.
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|(?:6011|64[4-9][0-9]|65[0-9]{2}|62[0-9]{2})[0-9]{12,15}|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11,16}"
)
_MAESTRO = re.compile(r"(?:50|5[6-8]|6[0-9])[0-9]{10,17}")
_CARD_WORDS = frozenset(
    words("card cards credit debit cc visa mastercard amex maestro discover diners jcb karte carte")
)
_PHONE_WORDS = frozenset(
    words(
        "phone phones telephone tel telefon telefono teléfono téléphone telefone fax mobile cell"
        " cellphone cellular handy móvil celular portable whatsapp sms dial call calling called ring"
        " hotline contact voicemail landline"
    )
)
_NANP = re.compile(
    r"(?<![0-9])(?<![0-9][-./])(?:1[-. ])?"
    r"(?:[2-9][0-9]{2}\) ?[2-9][0-9]{2}[-. ]|[2-9][0-9]{2}([-.])[2-9][0-9]{2}\1)[0-9]{4}"
    r"(?![0-9])(?![-./][0-9])"
)
_DATE = re.compile(r"(?:19|20)[0-9]{2}([-./])[01]?[0-9]\1[0-3]?[0-9]|[0-3]?[0-9]([-./])[0-3]?[0-9]\2(?:19|20)[0-9]{2}")
LONGEST_SUPPORTED = 40


def find_numbers(text: str, config: Pii) -> Iterator[Span]:
    """The cards, phones and national numbers."""
    kinds, rules = frozenset(config.kinds), _rules(tuple(config.national_ids))
    free = tuple(rule for rule in rules if rule.free)
    dni = "es_dni" in config.national_ids
    regions = tuple(config.phone_regions)
    for hit in _RUN.finditer(text):
        start, end = hit.span()
        context = frozenset[str]()
        if end - start <= LONGEST_SUPPORTED:
            context = context_words(text, start, config.context_characters)
        if "card" in kinds:
            yield from _cards(text, start, end, context)
        if "national_id" in kinds:
            for rule in rules if context else free:
                if rule.free or not rule.words.isdisjoint(context):
                    yield from _ids(rule, text, start, end, context)
            if dni:
                yield from find_dni(text, start, end)
        if "phone" in kinds:
            for span, phone in _phones(text, start, end, context, regions):
                if not (config.keep_fictional and phones.is_fictional(phone)):
                    yield span


def context_words(text: str, start: int, reach: int) -> frozenset[str]:
    """The whole words shortly before a number."""
    before = text[max(0, start - reach) : start]
    if "[" in before:
        before = _PLACEHOLDER.sub(" ", before)
    return frozenset(_WORD.findall(before.casefold()))


def is_card(digits: str, supported: bool = True) -> bool:
    """Whether a number has an issuer's range and length and Luhn's check digit (ISO/IEC 7812)."""
    issued = _ISSUERS.fullmatch(digits) or (supported and _MAESTRO.fullmatch(digits))
    return bool(issued) and luhn_sum(digits) % 10 == 0 and len(set(digits)) > 1


def luhn_sum(digits: str) -> int:
    """Luhn's sum; a multiple of ten is valid."""
    odd, even = digits[-1::-2], digits[-2::-2]
    return sum(map(int, odd + even.translate(_DOUBLED)))


_DOUBLED = str.maketrans("0123456789", "0246813579")


def _cards(text: str, start: int, end: int, context: Set[str]) -> Iterator[Span]:
    if end - start < 12:
        return
    supported, position = not context.isdisjoint(_CARD_WORDS), start
    while hit := _CARD.search(text, position, end):
        position = hit.start() + 1
        grouped = hit[1] or hit[2]
        digits = _NOT_DIGITS.sub("", hit[0])
        if stands_alone(text, *hit.span()) and is_card(digits, supported):
            position = hit.end()
            yield Span(hit.start(), hit.end(), "card", 0.95 if supported else 0.9 if grouped else 0.6)


@cache
def _rules(names: tuple[str, ...]) -> tuple[national.CompiledRule, ...]:
    return tuple(national.compiled(name) for name in names if name in national.DIGIT_RULES)


def _ids(rule: national.CompiledRule, text: str, start: int, end: int, context: Set[str]) -> Iterator[Span]:
    supported = rule.supported is not None and not context.isdisjoint(rule.words)
    pattern = rule.supported if supported else rule.free
    position = start
    while pattern and (hit := pattern.search(text, position, end)):
        position = hit.start() + 1
        if stands_alone(text, *hit.span()) and national.is_valid(rule.name, hit[0]):
            position = hit.end()
            score = min(rule.score + 0.1, 0.98) if supported else rule.score
            yield Span(hit.start(), hit.end(), "national_id", score, rule.name)


def _phones(
    text: str, start: int, end: int, context: Set[str], regions: tuple[str, ...]
) -> Iterator[tuple[Span, phones.Phone]]:
    opening = start - (text[start - 1 : start] == "(")
    if opening and text[opening - 1] == "+":
        for stop in _stops(text, start, end):
            digits = _NOT_DIGITS.sub("", text[start:stop].replace("(0)", ""))
            if (phone := phones.international(digits)) and stands_alone(text, opening - 1, stop):
                yield Span(opening - 1, stop, "phone", 0.95, phone.region), phone
                return
    if not context.isdisjoint(_PHONE_WORDS) and not _DATE.match(text, start, end):
        for stop in _stops(text, start, end):
            digits = _NOT_DIGITS.sub("", text[start:stop])
            if len(digits) > 7 and (phone := phones.domestic(digits, regions)) and stands_alone(text, opening, stop):
                yield Span(_opening(text, start, stop), stop, "phone", 0.8, phone.region), phone
                return
    american = _american(regions)
    for hit in _NANP.finditer(text, start, end) if american else ():
        phone = phones.domestic(_NOT_DIGITS.sub("", hit[0]), american)
        if phone and stands_alone(text, *hit.span()):
            yield Span(_opening(text, *hit.span()), hit.end(), "phone", 0.75, phone.region), phone


@cache
def _american(regions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(region for region in regions if region in phones.regions_of(1))


def _opening(text: str, start: int, end: int) -> int:
    """The start of a number, with the bracket that a closing one in it belongs to."""
    return start - (text[start - 1 : start] == "(" and ")" in text[start:end])


def _stops(text: str, start: int, end: int) -> list[int]:
    """Where a number may end, farthest first: at the ends of the groups among its first 24 characters."""
    last = min(end, start + 24)
    return [
        stop for stop in range(last, start + 6, -1) if text[stop - 1].isdigit() and not text[stop : stop + 1].isdigit()
    ]

"""Consistent pseudonyms: the same value and key give the same one, in every row and run."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn

from data_prep.curation.pii import fakes, phones
from data_prep.curation.pii.invented import invented
from data_prep.curation.pii.key import Stream, key_check
from data_prep.curation.pii.kinds import LOOSE
from data_prep.curation.pii.spans import Span
from data_prep.errors import DataError

_NOT_DIGITS = re.compile(r"[^0-9]+")
_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]+")


class Pseudonyms:
    """Replaces values; build one in each process from `read_key()`, for it refuses to be pickled."""

    def __init__(self, key: bytes, phone_regions: list[str]) -> None:
        self.check = key_check(key)
        self._stream: Callable[..., Stream] = lambda *label: Stream(key, *label)
        self._regions = tuple(phone_regions)
        self.replace = lru_cache(maxsize=65_536)(self._replace)
        """`replace(kind, rule, value)`, remembered."""

    def __repr__(self) -> str:
        return f"Pseudonyms(key check {self.check})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Pseudonyms holds the key, which is never written; build it from the environment")

    def of(self, span: Span, text: str) -> str:
        """The pseudonym of what a span covers, written as it is written there."""
        return self.replace(span.kind, span.rule, text[span.start : span.end])

    def _replace(self, kind: str, rule: str, value: str) -> str:
        """The pseudonym of a value; DataError for a kind that has none. It is never the value itself.

        Of a loose kind it may be where nothing in the value tells of anybody: `Street`, an emoji.
        """
        if kind in LOOSE:
            return invented(self._stream, kind, value)
        for attempt in range(100):
            # The label is the normalised value, so that every way to write it gives the same pseudonym.
            pseudonym = self._make(kind, rule, value, str(attempt))
            if pseudonym.casefold() != value.casefold():
                return pseudonym
        raise DataError(f"pii.{kind}: a value of {len(value)} characters has no other form; use action: mask for it")

    def _make(self, kind: str, rule: str, value: str, attempt: str) -> str:
        match kind:
            case "email":
                return self._email(value, attempt)
            case "phone":
                return self._phone(value, rule, attempt)
            case "ip":
                return fakes.ip(self._stream("ip", _address(value), attempt), value)
            case "card":
                digits = _NOT_DIGITS.sub("", value)
                return fill(value, fakes.card(self._stream("card", digits, attempt), digits))
            case "iban":
                compact = _NOT_ALNUM.sub("", value)
                return fill(value, fakes.iban(self._stream("iban", compact, attempt), compact))
            case "national_id":
                compact = _NOT_ALNUM.sub("", value)
                return fill(value, fakes.national_id(self._stream(rule, compact, attempt), rule, compact))
            case "secret":
                return fakes.secret(self._stream("secret", value, attempt), value, rule)
            case "url_credentials":
                return self._credentials(value, attempt)
        raise DataError(f"pii.{kind}: has no pseudonyms; use action: mask, or leave it out of kinds")

    def _email(self, value: str, attempt: str) -> str:
        local, _, domain = value.lower().partition("@")
        # The domain has a stream of its own, so that colleagues stay colleagues.
        name = fakes.email_local(self._stream("email", value.lower(), attempt), local)
        return f"{name}@{fakes.email_domain(self._stream('domain', domain))}"

    def _phone(self, value: str, rule: str, attempt: str) -> str:
        digits = _NOT_DIGITS.sub("", value.replace("(0)", ""))
        regions = (rule, *self._regions) if rule else self._regions
        phone = phones.international(digits) if value.startswith("+") else phones.domestic(digits, regions)
        if phone is None:
            raise DataError(f"pii.phone: a value of {len(digits)} digits is no valid number; use action: mask for it")
        fake = fakes.phone(self._stream("phone", str(phone.code), phone.national, attempt), phone)
        # From the right, so that a calling code or trunk prefix before it stays.
        return fill_from_right(value, fake.national)

    def _credentials(self, value: str, attempt: str) -> str:
        user, _, password = value.partition(":")
        name = fakes.email_local(self._stream("user", user, attempt), user) if user else ""
        return f"{name}:{self._stream('password', value, attempt).like(password)}"


def fill(form: str, characters: str) -> str:
    """The characters in place of the letters and digits of a form, which has as many."""
    each = iter(characters)
    return "".join(next(each) if place.isalnum() else place for place in form)


def fill_from_right(form: str, digits: str) -> str:
    """The digits in place of the last ones of a form; what stands before stays."""
    filled, left = list(form), list(digits)
    for place in range(len(form) - 1, -1, -1):
        if left and "0" <= form[place] <= "9":
            filled[place] = left.pop()
    return "".join(filled)


def _address(value: str) -> str:
    from ipaddress import ip_address

    return str(ip_address(value))

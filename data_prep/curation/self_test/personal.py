"""Invented personal data with right checksums, and look-alikes with wrong ones. Nothing of it is anybody's by intent;
numbers that everybody knows to be fictional would not do, since the filter leaves those alone."""

import string
from collections.abc import Callable

from data_prep.curation.pii import fakes, phones
from data_prep.curation.pii.key import Stream
from data_prep.curation.pii.numbers import luhn_sum


def _email(stream: Stream) -> str:
    return f"{fakes.email_local(stream, 'a.b')}@{stream.like('abcdefgh')}-mail.net"


def _phone(stream: Stream) -> str:
    number = fakes.phone(stream, phones.Phone(34, f"6{stream.digits(8)}", "ES")).national
    return f"+34 {number[:3]} {number[3:6]} {number[6:]}"


def _iban(stream: Stream) -> str:
    number = fakes.iban(stream, "DE02" + "1" * 18)
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4))


def _card(stream: Stream) -> str:
    number = fakes.card(stream, "4539" + "0" * 12)
    return " ".join(number[at : at + 4] for at in range(0, 16, 4))


def _ip(stream: Stream) -> str:
    return f"{11 + stream.below(80)}.{stream.below(256)}.{stream.below(256)}.{1 + stream.below(254)}"


def _secret(stream: Stream) -> str:
    return "ghp_" + _mixed(stream, 36)


def _mixed(stream: Stream, size: int) -> str:
    return "".join(stream.one_of(string.ascii_letters + string.digits) for _ in range(size))


def _wrong_email(stream: Stream) -> str:
    return f"{fakes.email_local(stream, 'a.b')} @ {stream.like('abcdefgh')}"


def _wrong_phone(stream: Stream) -> str:
    # Nothing that is dialled begins with three zeros.
    return f"000{stream.digits(1)}-{stream.digits(4)}-{stream.digits(2)}"


def _wrong_iban(stream: Stream) -> str:
    number = _iban(stream)
    # Check digits that differ from the right ones by less than 97 are wrong.
    return f"DE{(int(number[2:4]) + 7) % 97:02}{number[4:]}"


def _wrong_card(stream: Stream) -> str:
    digits = "".join(each for each in _card(stream) if each.isdigit())
    wrong = digits[:-1] + str((int(digits[-1]) + 1 + stream.below(8)) % 10)
    assert luhn_sum(wrong) % 10, "one changed digit breaks Luhn's sum"
    return " ".join(wrong[at : at + 4] for at in range(0, 16, 4))


def _wrong_ip(stream: Stream) -> str:
    return f"{stream.below(200)}.{256 + stream.below(700)}.{stream.below(256)}.{stream.below(256)}"


def _wrong_secret(stream: Stream) -> str:
    return "ghp_" + _mixed(stream, 12)


Draw = Callable[[Stream], str]

KINDS: dict[str, tuple[str, Draw, str, Draw]] = {
    "email": ("Write to {} for details.", _email, "Write to {} for details.", _wrong_email),
    "phone": ("Call {} in the morning.", _phone, "Part number {} is out of stock.", _wrong_phone),
    "iban": ("Please pay to {} by Friday.", _iban, "Please pay to {} by Friday.", _wrong_iban),
    "card": ("Charged to {} yesterday.", _card, "Charged to {} yesterday.", _wrong_card),
    "ip": ("Connection from {} refused.", _ip, "Connection from {} refused.", _wrong_ip),
    "secret": ("export TOKEN={}", _secret, "export TOKEN={}", _wrong_secret),
}
"""Kind → a sentence and the value in it, and the same for what looks like one."""


def invented(kind: str, genuine: bool, seed: int, number: int) -> tuple[str, int, int]:
    """A sentence with one value, and the value's characters in it; equal arguments give equal sentences."""
    carrier, draw = KINDS[kind][:2] if genuine else KINDS[kind][2:]
    stream = Stream(f"self-test {seed}".encode(), kind, str(genuine), str(number))
    value = draw(stream)
    start = carrier.index("{}")
    return carrier.format(value), start, start + len(value)

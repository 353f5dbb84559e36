"""One valid pseudonym for one normalised value; a stream decides every draw."""

import ipaddress
from collections.abc import Callable
from importlib import import_module

from data_prep.curation.pii import national, phones
from data_prep.curation.pii.key import Stream
from data_prep.curation.pii.lettered import is_iban
from data_prep.curation.pii.network import FICTIONAL
from data_prep.curation.pii.numbers import luhn_sum
from data_prep.curation.pii.vocabulary import words
from data_prep.errors import DataError

_FIRST = words(
    "adam alice amir ana anna anton aria ben bianca carla carlos chen clara dana daniel david elena"
    " emil emma eric eva fatima felix finn gina grace hana hugo ida ines ivan jana jane joel john"
    " jonas julia karim kira lara lena leo lily luca lucy maria mark maya mila mona nadia nina noah"
    " nora olga omar oscar paul petra ravi rosa sam sara simon"
)
STEMS = words(
    "ander bar ben berg black bran brook carl cart clay col dal dun ed fair fen ford gar gold green"
    " hal ham hart hill hol hunt jan ken kings lam lang lind mar mel mor nor oak park pen pet ram ray"
    " red ros rut san sel sil stan stein stone sut tal thorn wal war wel west whit wil win wood"
)
ENDINGS = words(
    "bach berg brook by dale den ell er field ford gate ham hardt holm house hurst ings land ley ling"
    " lock man mann mark more ner quist ridge sen set son stad stein stone strom tham ton um vale vik"
    " ville wall ward water wick win worth y"
)
_COMPANIES = ("mail", "post", "office", "team", "home", "group", "works", "studio", "media", "labs", "trade", "health")
RESERVED = ("example.com", "example.net", "example.org")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_TRIES = 20_000


def email_local(stream: Stream, local: str) -> str:
    """A first and a last name, with the separator and the number of digits of the original."""
    separator = next((each for each in local if each in "._-+"), "")
    name = f"{stream.one_of(_FIRST)}{separator}{stream.one_of(STEMS)}{stream.one_of(ENDINGS)}"
    digits = min(sum(map(str.isdigit, local)), 8)
    return name + (stream.digits(digits) if digits else "")


def email_domain(stream: Stream) -> str:
    """A name below a domain that belongs to nobody (RFC 2606)."""
    return f"{stream.one_of(STEMS)}{stream.one_of(ENDINGS)}{stream.one_of(_COMPANIES)}.{stream.one_of(RESERVED)}"


def ip(stream: Stream, address: str) -> str:
    """An address for documentation or benchmarks, of the same version."""
    version = ipaddress.ip_address(address).version
    networks = [network for network in FICTIONAL if network.version == version]
    position = stream.below(sum(network.num_addresses for network in networks))
    for network in networks[:-1]:
        if position < network.num_addresses:
            return str(network[position])
        position -= network.num_addresses
    return str(networks[-1][position])


def card(stream: Stream, digits: str) -> str:
    """A card of the same issuer (its first four digits) and length, with Luhn's check digit."""
    body = digits[:4] + stream.digits(len(digits) - 5)
    return body + str(-luhn_sum(body + "0") % 10)


def iban(stream: Stream, compact: str) -> str:
    """An IBAN of the same country, with its own check digits and, where the original has them, the country's."""
    from stdnum import iban as standard

    strict = bool(standard.is_valid(compact))
    for attempt in range(_MOST_TRIES):
        body = stream.like(compact[4:])
        number = compact[:2] + standard.calc_check_digits(compact[:2] + "00" + body) + body
        if is_iban(number) and (not strict or attempt > 2000 or standard.is_valid(number)):
            return number
    raise _none("iban", compact)


def phone(stream: Stream, original: phones.Phone) -> phones.Phone:
    """A valid number of the same country and length: a fictional one where the country has such."""
    ranges = [
        each for each in phones.FICTIONAL.get(original.code, ()) if len(each[0]) + each[1] == len(original.national)
    ]
    valid = phones.plan(original.region).valid
    for attempt in range(_MOST_TRIES):
        if original.code == 1 and attempt < 2000:
            number = f"{2 + stream.below(8)}{stream.digits(2)}55501{stream.digits(2)}"
        elif ranges and attempt < 50:
            prefix, free = ranges[stream.below(len(ranges))]
            number = prefix + stream.digits(free)
        else:
            # The first digits hold the type (mobile, area); where none fits, fewer of them are kept.
            kept = max(3 - attempt // 500, 0)
            number = original.national[:kept] + stream.digits(len(original.national) - kept)
        if valid.fullmatch(number) and number != original.national:
            return phones.Phone(original.code, number, original.region)
    raise _none("phone", original.national)


def national_id(stream: Stream, rule: str, compact: str) -> str:
    """A number of the same kind and length that passes its country's check."""
    draw = _DRAWS.get(rule)
    for _ in range(_MOST_TRIES):
        number = draw(stream) if draw else stream.like(compact)
        if len(number) == len(compact) and national.is_valid(rule, number):
            return number
    raise _none(rule, compact)


def secret(stream: Stream, value: str, rule: str) -> str:
    """Characters of the same classes after what names the provider; of a PEM block only the body changes."""
    if rule == "private_key":
        begin, _, rest = value.partition("KEY-----")
        body, dashes, end = rest.partition("-----END")
        return begin + "KEY-----" + stream.like(body) + dashes + end
    if rule == "jwt":
        header, payload, signature = value.split(".")
        return f"{header}.eyJ{stream.like(payload[3:])}.{stream.like(signature)}"
    kept = max((len(prefix) for prefix in _PREFIXES if value.startswith(prefix)), default=0)
    return value[:kept] + stream.like(value[kept:])


_PREFIXES = words(
    "AKIA ASIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- glptt- AIza GOCSPX- ya29."
    " xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp- hooks.slack.com/services/ sk_live_ sk_test_"
    " rk_live_ rk_test_ whsec_ sk-ant- sk-proj- sk-svcacct- sk-admin- sk- hf_"
)


def _none(kind: str, value: str) -> DataError:
    # Without the value: an error message is written to logs.
    return DataError(f"pii.{kind}: a value of {len(value)} characters has no valid form of its kind; use action: mask")


def _check(module: str, body: str) -> str:
    found = import_module(f"stdnum.{module}")
    calculate = getattr(found, "calc_check_digits", None) or found.calc_check_digit
    return str(calculate(body))


def _date(stream: Stream) -> tuple[int, int, int]:
    return stream.below(100), 1 + stream.below(12), 1 + stream.below(28)


def _nir(stream: Stream) -> str:
    year, month, _ = _date(stream)
    # Departments 01 to 19 and 21 to 95; 20 is Corsica's old number.
    place = 1 + stream.below(94)
    body = f"{1 + stream.below(2)}{year:02}{month:02}{place + (place > 19):02}{stream.digits(6)}"
    return body + _check("fr.nir", body)


def _pesel(stream: Stream) -> str:
    year, month, day = _date(stream)
    body = f"{year:02}{month:02}{day:02}{stream.digits(4)}"
    return body + _check("pl.pesel", body)


def _codice_fiscale(stream: Stream) -> str:
    consonants = "".join(stream.one_of("BCDFGLMNPRSTVZ") for _ in range(6))
    year, month, day = _date(stream)
    day += 40 * stream.below(2)
    body = f"{consonants}{year:02}{'ABCDEHLMPRST'[month - 1]}{day:02}{stream.one_of('ABCDEFGHIL')}{stream.digits(3)}"
    return body + _check("it.codicefiscale", body)


def _dni(stream: Stream) -> str:
    body = stream.digits(8)
    return body + _check("es.dni", body)


def _nie(stream: Stream) -> str:
    body = stream.one_of("XYZ") + stream.digits(7)
    return body + _check("es.nie", body)


def _nino(stream: Stream) -> str:
    return stream.one_of(_LETTERS) + stream.one_of(_LETTERS) + stream.digits(6) + stream.one_of("ABCD")


_DRAWS: dict[str, Callable[[Stream], str]] = {
    "fr_nir": _nir,
    "pl_pesel": _pesel,
    "it_codicefiscale": _codice_fiscale,
    "es_dni": _dni,
    "es_nie": _nie,
    "gb_nino": _nino,
}
"""Numbers that hold dates or letters; the others are drawn digit by digit until the check passes."""

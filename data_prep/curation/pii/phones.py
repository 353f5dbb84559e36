"""Phone numbers: the number plans of phonenumbers, compiled once, because its own parser takes 50 µs a candidate."""

import re
from functools import cache, lru_cache
from typing import NamedTuple

_TYPES = ("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "uan")

FICTIONAL: dict[int, tuple[tuple[str, int], ...]] = {
    # Ofcom (drama numbers), ARCEP, ACMA, Bundesnetzagentur: a prefix and how many free digits follow it.
    44: tuple(
        (prefix, 3)
        for prefix in ["7700900", "2079460", "1134960", "1144960", "1214960", "1314960", "1614960", "2920180"]
    ),
    33: tuple((prefix, 4) for prefix in ["19900", "26191", "35301", "46571", "53649", "63998"]),
    61: tuple((prefix, 4) for prefix in ["25550", "27010", "35550", "37010", "75550", "77010", "85550", "87010"]),
    49: (("3023125", 3), ("6990009", 3), ("4066969", 3), ("2214710", 3), ("8999998", 3), ("17139200", 2)),
}
"""Numbers that the regulators keep for films and examples, by calling code; of +1 these are 555-0100 to 0199."""


class Phone(NamedTuple):
    """A valid number."""

    code: int
    """The country calling code."""
    national: str
    region: str


class _Plan(NamedTuple):
    valid: re.Pattern[str]
    prefix: re.Pattern[str] | None
    transform: str | None


def is_fictional(phone: Phone) -> bool:
    """Whether a number is reserved for films and examples."""
    if phone.code == 1:
        return phone.national[3:8] == "55501"
    return any(
        phone.national.startswith(prefix) and len(phone.national) == len(prefix) + free
        for prefix, free in FICTIONAL.get(phone.code, ())
    )


@lru_cache(maxsize=4096)
def international(digits: str) -> Phone | None:
    """The number behind a + ; None when no country has it."""
    for length in (1, 2, 3):
        code = int(digits[:length])
        for region in regions_of(code):
            if plan(region).valid.fullmatch(digits[length:]):
                return Phone(code, digits[length:], region)
    return None


@lru_cache(maxsize=4096)
def domestic(digits: str, regions: tuple[str, ...]) -> Phone | None:
    """The number as it is dialled within the first of the regions in which it is valid."""
    for region in regions:
        chosen = plan(region)
        for national in (_without_prefix(digits, chosen), digits):
            if chosen.valid.fullmatch(national):
                return Phone(_calling_code(region), national, region)
    return None


@cache
def regions_of(code: int) -> tuple[str, ...]:
    """The countries of a calling code, the main one first."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return tuple(COUNTRY_CODE_TO_REGION_CODE.get(code, ()))


@cache
def _calling_code(region: str) -> int:
    from phonenumbers import country_code_for_region

    return country_code_for_region(region)


@cache
def plan(region: str) -> _Plan:
    """The number plan of a country; of a code that is none, one without numbers."""
    from phonenumbers import PhoneMetadata

    # 001 stands for numbers without a country, which are kept by calling code.
    metadata = PhoneMetadata.metadata_for_region(region, None)
    if metadata is None:
        return _Plan(re.compile(r"(?!)"), None, None)
    kinds = [getattr(metadata, kind) for kind in _TYPES]
    patterns = {kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern}
    prefix = metadata.national_prefix_for_parsing
    rule = metadata.national_prefix_transform_rule
    return _Plan(
        re.compile("|".join(f"(?:{each})" for each in sorted(patterns))), re.compile(prefix) if prefix else None, rule
    )


def _without_prefix(digits: str, chosen: _Plan) -> str:
    hit = chosen.prefix.match(digits) if chosen.prefix else None
    if not hit:
        return digits
    if chosen.transform and hit.re.groups and hit[hit.re.groups] is not None:
        return hit.expand(chosen.transform.replace("$", "\\")) + digits[hit.end() :]
    return digits[hit.end() :]

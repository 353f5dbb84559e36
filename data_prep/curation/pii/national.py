"""National identity numbers: their form, the words that support them, and python-stdnum's check of them."""

import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple


class IdRule(NamedTuple):
    """How one national number is written and checked."""

    free: str | None
    """The form that counts anywhere; None: it is too common a number to count without a word."""
    supported: str | None
    """The form that counts after one of the words; None: the same as the free one."""
    words: frozenset[str]
    check: str | None
    """The module of stdnum."""
    score: float


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_S = r"[ \-.]?"
_TAX_DE = _words("steuer steuerid idnr identifikationsnummer steueridentifikationsnummer steuernummer tin tax")
DIGIT_RULES: dict[str, IdRule] = {
    "us_ssn": IdRule(
        r"[0-9]{3}-[0-9]{2}-[0-9]{4}", rf"[0-9]{{3}}{_S}[0-9]{{2}}{_S}[0-9]{{4}}", _words("ssn social"), "us.ssn", 0.85
    ),
    "gb_nhs": IdRule(None, rf"[0-9]{{3}}{_S}[0-9]{{3}}{_S}[0-9]{{4}}", _words("nhs"), "gb.nhs", 0.85),
    "de_idnr": IdRule(None, rf"[0-9]{{2}}{_S}[0-9]{{3}}{_S}[0-9]{{3}}{_S}[0-9]{{3}}", _TAX_DE, "de.idnr", 0.85),
    "fr_nir": IdRule(
        r"[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", None, frozenset(), "fr.nir", 0.85
    ),
    "nl_bsn": IdRule(
        None, r"[0-9]{4}\.?[0-9]{2}\.?[0-9]{3}", _words("bsn burgerservicenummer sofinummer"), "nl.bsn", 0.85
    ),
    "pl_pesel": IdRule(None, r"[0-9]{11}", _words("pesel"), "pl.pesel", 0.9),
    "br_cpf": IdRule(
        r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
        r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}",
        _words("cpf"),
        "br.cpf",
        0.9,
    ),
    "ca_sin": IdRule(None, rf"[0-9]{{3}}{_S}[0-9]{{3}}{_S}[0-9]{{3}}", _words("sin insurance nas"), "ca.sin", 0.85),
    "in_aadhaar": IdRule(
        None, rf"[0-9]{{4}}{_S}[0-9]{{4}}{_S}[0-9]{{4}}", _words("aadhaar aadhar uidai"), "in_.aadhaar", 0.85
    ),
    "au_tfn": IdRule(None, rf"[0-9]{{3}}{_S}[0-9]{{3}}{_S}[0-9]{{3}}", _words("tfn tax"), "au.tfn", 0.8),
}
"""Numbers of digits only."""

LETTER_RULES: dict[str, IdRule] = {
    # HMRC issues no check digit; its prefixes are in the form.
    "gb_nino": IdRule(
        r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        None,
        frozenset(),
        None,
        0.75,
    ),
    "es_nie": IdRule(r"[XYZ]-?[0-9]{7}-?[A-Z]", None, frozenset(), "es.nie", 0.8),
    "it_codicefiscale": IdRule(
        r"[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]", None, frozenset(), "it.codicefiscale", 0.95
    ),
}
"""Numbers that begin with letters."""

DNI = IdRule(r"[0-9]{8}-?[A-Z]", None, frozenset(), "es.dni", 0.75)
RULES: dict[str, IdRule] = {**DIGIT_RULES, **LETTER_RULES, "es_dni": DNI}


class CompiledRule(NamedTuple):
    """The patterns of a rule, to be searched within a run of digits."""

    name: str
    free: re.Pattern[str] | None
    supported: re.Pattern[str] | None
    words: frozenset[str]
    score: float


@cache
def compiled(name: str) -> CompiledRule:
    """The rule's patterns between borders that no number continues across."""
    rule = RULES[name]
    free = re.compile(_alone(rule.free)) if rule.free else None
    supported = re.compile(_alone(rule.supported)) if rule.supported else None
    return CompiledRule(name, free, supported, rule.words, rule.score)


def _alone(form: str) -> str:
    return rf"(?<![0-9])(?<![0-9][-./])(?:{form})(?![0-9])(?![-./][0-9])"


@lru_cache(maxsize=4096)
def is_valid(name: str, value: str) -> bool:
    """Whether a number passes the check of its country."""
    rule = RULES[name]
    if name == "us_ssn" and value.replace("-", "")[:1] == "9":
        return False
    if rule.check is None:
        return bool(re.fullmatch(rule.free or "", value))
    return bool(_checker(rule.check)(value))


@cache
def _checker(module: str) -> Callable[[str], bool]:
    return import_module(f"stdnum.{module}").is_valid

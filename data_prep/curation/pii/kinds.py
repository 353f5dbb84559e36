"""The kinds of findings, and how they behave where they overlap. Imports nothing."""

from typing import Literal, get_args

RuleKind = Literal["email", "phone", "ip", "iban", "card", "national_id", "url_credentials", "secret"]
LooseKind = Literal["name", "place", "address", "organization", "group", "number", "birth_date", "url"]
"""What has no exact form: a name of a person; a city, region or country; a postal address; a company; a nationality,
religion or party; a number that a model takes for somebody's; a date of birth; a web address."""

Kind = RuleKind | LooseKind
RULE_KINDS: tuple[RuleKind, ...] = get_args(RuleKind)
LOOSE_KINDS: tuple[LooseKind, ...] = get_args(LooseKind)
KINDS: tuple[Kind, ...] = (*RULE_KINDS, *LOOSE_KINDS)
LOOSE = frozenset[str](LOOSE_KINDS)
"""Findings of these kinds join where they overlap, and leave room to those of the others, which have exact borders."""

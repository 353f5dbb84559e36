"""Whether a licence is allowed: names, lists of names, and SPDX expressions (SPDX specification 2.3, annex D)."""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def is_allowed(licence: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    """Whether a licence, or an expression of several, may be used under these rules (in any case, with `*`)."""

    def fits(name: str) -> bool:
        name = name.casefold()
        if any(fnmatchcase(name, rule.casefold()) for rule in deny):
            return False
        return not allow or any(fnmatchcase(name, rule.casefold()) for rule in allow)

    tokens = _TOKEN.findall(licence)
    if not {"or", "and"} & {token.casefold() for token in tokens}:
        return fits(licence.strip())
    allowed, rest = _any(tokens, fits)
    # Not an expression after all ("Terms and Conditions (see below"): a name.
    return allowed if allowed is not None and not rest else fits(licence.strip())


def _any(tokens: list[str], fits: Callable[[str], bool]) -> tuple[bool | None, list[str]]:
    """`A OR B`, where AND binds tighter; None when the tokens are no expression. Returns what is left of the tokens."""
    allowed, tokens = _all(tokens, fits)
    while allowed is not None and tokens and tokens[0].casefold() == "or":
        other, tokens = _all(tokens[1:], fits)
        allowed = None if other is None else allowed or other
    return allowed, tokens


def _all(tokens: list[str], fits: Callable[[str], bool]) -> tuple[bool | None, list[str]]:
    allowed, tokens = _one(tokens, fits)
    while allowed is not None and tokens and tokens[0].casefold() == "and":
        other, tokens = _one(tokens[1:], fits)
        allowed = None if other is None else allowed and other
    return allowed, tokens


def _one(tokens: list[str], fits: Callable[[str], bool]) -> tuple[bool | None, list[str]]:
    if tokens and tokens[0] == "(":
        allowed, rest = _any(tokens[1:], fits)
        return (allowed, rest[1:]) if rest and rest[0] == ")" else (None, rest)
    end = next((at for at, token in enumerate(tokens) if token.casefold() in ("and", "or", "(", ")")), len(tokens))
    # A name with its exception: GPL-2.0-only WITH Classpath-exception-2.0.
    return (fits(" ".join(tokens[:end])) if end else None), tokens[end:]

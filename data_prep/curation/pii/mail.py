"""E-mail addresses, found from their @ outwards."""

import re
from collections.abc import Iterator

from data_prep.curation.pii.spans import Span
from data_prep.curation.pii.vocabulary import words

_AT = re.compile(r"[\w+-]@[^\W_]")
_LOCAL_BACKWARDS = re.compile(r"[\w.+-]{1,65}")
_DOMAIN = re.compile(r"(?:[^\W_][\w-]{0,62}\.)+(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?!\w)", re.IGNORECASE)
_FILE_ENDINGS = frozenset(words("png jpg jpeg gif svg webp ico css js html htm php py json pdf mp3 mp4 zip txt"))
_RESERVED = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org)|example|invalid|test|localhost)$", re.IGNORECASE)
LONGEST_DOMAIN = 253


def find_emails(text: str, keep_fictional: bool) -> Iterator[Span]:
    """Addresses local@domain.tld; the local part is at most 64 characters (RFC 5321)."""
    if "@" not in text:
        return
    for hit in _AT.finditer(text):
        at = hit.start() + 1
        domain = _DOMAIN.match(text, at + 1, at + 1 + LONGEST_DOMAIN)
        if not domain or domain[0].rpartition(".")[2].lower() in _FILE_ENDINGS:
            continue
        start = _local_start(text, at)
        if start is not None and not (keep_fictional and is_reserved(domain[0])):
            yield Span(start, domain.end(), "email", 0.95)


def is_reserved(domain: str) -> bool:
    """Whether a domain can belong to nobody (RFC 2606)."""
    return bool(_RESERVED.search(domain))


def _local_start(text: str, at: int) -> int | None:
    backwards = _LOCAL_BACKWARDS.match(text[max(0, at - 65) : at][::-1])
    if not backwards or backwards.end() > 64:
        return None
    start = at - backwards.end()
    # The backslash and n of an escaped line end are no part of the address.
    if start and text[start - 1] == "\\" and text[start] in "ntr":
        start += 1
    while start < at and text[start] in ".+-":
        start += 1
    return start if start < at else None

"""IP addresses, and URLs that hold a user name and a password."""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from data_prep.curation.pii.borders import follows_escape
from data_prep.curation.pii.spans import Span
from data_prep.curation.pii.vocabulary import words

_V4 = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9])")
# Seldom found and five times as fast to look for.
_DOTTED = re.compile(r"\.[0-9]{1,3}\.[0-9]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_V6_PART = re.compile(r"[0-9A-Fa-f:.]{1,45}")
_USERINFO = re.compile(r"[^\s/?#@:\"'<>]{0,128}:[^\s/?#@\"'<>]{1,256}@[\w\[]")
_URL = re.compile(r"[^\s<>\"'\\`|{}^]{1,2048}+")
# What stands before the dotted numbers of software, laws, chapters and enzymes.
_VERSION_WORDS = frozenset(
    words("v version ver release build firmware section sec chapter clause rfc oid ec revision rev figure table §")
)


def find_ips(text: str, keep_fictional: bool) -> Iterator[Span]:
    """IPv4 and IPv6 addresses, without version and section numbers."""
    for hit in _V4.finditer(text) if _DOTTED.search(text) else ():
        start, end = hit.span()
        if _stands_alone_v4(text, start, end) and _is_v4(hit[0], keep_fictional):
            yield Span(start, end, "ip", 0.85, "v4")
    if text.count(":") < 2:
        return
    done = 0
    for hit in _COLONS.finditer(text):
        if hit.start() < done:
            continue
        start = hit.start() - _reach(text[max(done, hit.start() - 45) : hit.start()][::-1])
        end = start + _reach(text[start : start + 46])
        done = max(end, hit.end() - 1)
        while end > start and text[end - 1] == ".":
            end -= 1
        if end - start <= 45 and _stands_alone_v6(text, start, end) and _is_address(text[start:end], keep_fictional):
            yield Span(start, end, "ip", 0.85, "v6")


def find_url_credentials(text: str) -> Iterator[Span]:
    """The `user:password` of scheme://user:password@host."""
    at = text.find("://")
    while at >= 0:
        hit = _USERINFO.match(text, at + 3)
        if hit:
            yield Span(at + 3, hit.end() - 2, "url_credentials", 0.99)
        at = text.find("://", at + 3)


def find_urls(text: str) -> Iterator[Span]:
    """Web addresses, without the punctuation after them."""
    for scheme in ("http://", "https://", "www."):
        at = text.find(scheme)
        while at >= 0:
            hit = _URL.match(text, at + len(scheme))
            end = hit.end() if hit else at + len(scheme)
            if hit:
                trimmed = text[at:end].rstrip(".,;:!?)]}'\"")
                if "." in trimmed[len(scheme) :]:
                    yield Span(at, at + len(trimmed), "url", 0.9)
            at = text.find(scheme, end)


def is_fictional(address: str) -> bool:
    """Whether an address can be nobody's: loopback, unspecified, multicast, reserved, documentation, benchmarks."""
    parsed = ipaddress.ip_address(address)
    # Python calls all of IPv6 beyond what is handed out today reserved; of IPv4 it is 240.0.0.0/4.
    reserved = parsed.version == 4 and parsed.is_reserved
    own = parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast or reserved
    return own or any(parsed in network for network in FICTIONAL if network.version == parsed.version)


FICTIONAL = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"))
)
"""RFC 5737, RFC 2544 (benchmarks) and RFC 3849."""


def _reach(part: str) -> int:
    found = _V6_PART.match(part)
    return found.end() if found else 0


def _stands_alone_v4(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    if (before.isalnum() or before in ("_", ".", "-")) and not follows_escape(text, start):
        return False
    if after[:1].isalnum() or after[:1] in ("_", "-") or (after[:1] == "." and after[1:].isdigit()):
        return False
    word = text[max(0, start - 16) : start].rstrip(" .:#").rpartition(" ")[2]
    return word.lstrip("([").lower() not in _VERSION_WORDS


def _stands_alone_v6(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if after.isalnum() or after == "_":
        return False
    if (before.isalnum() or before == "_") and not follows_escape(text, start):
        return False
    # dead::beef may be code; an address that belongs to somebody has digits and more than two groups.
    address = text[start:end]
    return any(map(str.isdigit, address)) and sum(map(bool, address.split(":"))) > 2


def _is_v4(value: str, keep_fictional: bool) -> bool:
    # By hand, because ipaddress takes 10 µs and a log file has an address on every line.
    parts = value.split(".")
    octets = tuple(map(int, parts))
    if max(octets) > 255 or any(len(part) > 1 and part[0] == "0" for part in parts):
        return False
    first, rest = octets[0], octets[:3]
    # Net masks are configuration, not hosts.
    own = first in (0, 127) or first > 223 or octets[:2] in ((198, 18), (198, 19))
    return not (keep_fictional and (own or rest in ((192, 0, 2), (198, 51, 100), (203, 0, 113))))


@lru_cache(maxsize=4096)
def _is_address(value: str, keep_fictional: bool) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (keep_fictional and is_fictional(value))

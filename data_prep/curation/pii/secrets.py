"""Keys and tokens of the big providers: a literal prefix is looked up first, its pattern only where that occurs."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from data_prep.curation.pii.borders import follows_escape
from data_prep.curation.pii.spans import Span


class SecretRule(NamedTuple):
    """One form of key: its literal start, the pattern from there, and who issues it."""

    prefix: str
    pattern: re.Pattern[str]
    provider: str


def _rule(prefix: str, rest: str, provider: str) -> SecretRule:
    return SecretRule(prefix, re.compile(re.escape(prefix) + rest + r"(?![\w-])"), provider)


# Every repetition is possessive and ends with the word, so a word is read once by each pattern.
_JWT = _rule("eyJ", r"[\w-]{8,4096}+\.eyJ[\w-]{4,16384}+\.[\w-]{10,4096}+", "jwt")
_RULES = (
    _JWT,
    _rule("AKIA", r"[A-Z0-9]{16}", "aws"),
    _rule("ASIA", r"[A-Z0-9]{16}", "aws"),
    *(_rule(f"gh{letter}_", r"[A-Za-z0-9]{36,255}+", "github") for letter in "pousr"),
    _rule("github_pat_", r"[A-Za-z0-9_]{60,255}+", "github"),
    *(_rule(start, r"[\w-]{20,60}+", "gitlab") for start in ("glpat-", "gldt-", "glrt-", "glptt-")),
    _rule("AIza", r"[\w-]{35}", "google"),
    _rule("GOCSPX-", r"[\w-]{28}", "google"),
    _rule("ya29.", r"[\w-]{20,1024}+", "google"),
    *(_rule(f"xox{letter}-", r"[A-Za-z0-9-]{10,250}+", "slack") for letter in "abeoprs"),
    _rule("xapp-", r"[A-Za-z0-9-]{20,250}+", "slack"),
    _rule("hooks.slack.com/services/", r"T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,30}+", "slack"),
    *(
        _rule(f"{kind}_{mode}_", r"[A-Za-z0-9]{16,247}+", "stripe")
        for kind in ("sk", "rk")
        for mode in ("live", "test")
    ),
    _rule("whsec_", r"[A-Za-z0-9+/=]{32,64}+", "stripe"),
    _rule("sk-ant-", r"[\w-]{24,250}+", "anthropic"),
    _rule("sk-", r"(?!ant-)(?=[\w-]{0,250}[0-9])(?=[\w-]{0,250}[A-Z])[\w-]{32,250}+", "openai"),
    _rule("hf_", r"[A-Za-z]{30,40}+", "huggingface"),
)
_SIGNS = ("_", "xox", "t-", "IA")
_BY_SIGN: dict[str, list[SecretRule]] = {}
for _one in _RULES:
    _BY_SIGN.setdefault(next((sign for sign in _SIGNS if sign in _one.prefix), _one.prefix), []).append(_one)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,48}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s:,\\.()]|-(?!-)){0,16384}+")
_AWS_SECRET = re.compile(
    r"secret_?access_?key[\"']?\s{0,4}[=:]\s{0,4}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.I
)


def find_secrets(text: str) -> Iterator[Span]:
    """Keys and tokens of AWS, GitHub, GitLab, Google, Slack, Stripe, OpenAI, Anthropic and Hugging Face, JWT, PEM."""
    for sign, rules in _BY_SIGN.items():
        # Looking for one sign that several prefixes hold is what makes ordinary text cheap.
        for rule in rules if sign in text else ():
            if rule.prefix in text:
                for hit in _matches(rule, text):
                    if rule is not _JWT or _is_json_segment(hit[0].partition(".")[0]):
                        yield Span(hit.start(), hit.end(), "secret", 0.98, rule.provider)
    if "-----BEGIN " in text:
        yield from _find_private_keys(text)
    if "cret_access" in text or "cretAccess" in text or "CRET_ACCESS" in text:
        for hit in _AWS_SECRET.finditer(text):
            yield Span(*hit.span(1), "secret", 0.95, "aws")


def _matches(rule: SecretRule, text: str) -> Iterator[re.Match[str]]:
    # Trying the pattern only where a word starts keeps this linear for texts such as sk-sk-sk-…
    start = text.find(rule.prefix)
    while start >= 0:
        hit = rule.pattern.match(text, start) if _starts_a_word(text, start) else None
        if hit:
            yield hit
        start = text.find(rule.prefix, hit.end() if hit else start + len(rule.prefix))


def _starts_a_word(text: str, start: int) -> bool:
    before = text[start - 1 : start] if start else ""
    return not (before.isalnum() or before in ("_", "-")) or follows_escape(text, start)


def _is_json_segment(segment: str) -> bool:
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        return False
    return decoded.startswith(b"{") and decoded.rstrip().endswith(b"}")


def _find_private_keys(text: str) -> Iterator[Span]:
    for begin in _PEM.finditer(text):
        # A body has no two hyphens in a row, so a missing end costs no search through the rest of the text.
        body = _PEM_BODY.match(text, begin.end())
        stop = body.end() if body else begin.end()
        end = _PEM_END.match(text, stop)
        if end:
            yield Span(begin.start(), end.end(), "secret", 0.99, "private_key")
        elif stop - begin.end() > 64:
            yield Span(begin.start(), stop, "secret", 0.9, "private_key")

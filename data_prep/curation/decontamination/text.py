"""Texts as they are compared: what does not count removed, and where each word stands."""

import html
import re
import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.words import IDEOGRAPH, IGNORED, SEPARATOR, WORD, Positions, character_class

ENTITY = re.compile(r"&(?:amp;){0,3}(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""An HTML escape, up to four times escaped."""

APOSTROPHES = ("'", "’", "‘", "ʼ")
"""Left out, so that don't, don’t and dont are one word."""


def clean(text: str) -> str:
    """The text without HTML escapes, in NFKC, without apostrophes; words are split and casefolded later."""
    if "&" in text:
        text = ENTITY.sub(_unescaped, text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        for apostrophe in APOSTROPHES[1:]:
            text = text.replace(apostrophe, "")
    return text.replace("'", "")


def origins(text: str) -> Positions:
    """For each character of `clean(text)`, and for its end, the character of `text` that it comes from."""
    characters, origin = _unescaped_from(text) if "&" in text else (text, np.arange(len(text) + 1))
    if not characters.isascii() and not unicodedata.is_normalized("NFKC", characters):
        characters, origin = _composed(characters, origin)
    kept = np.ones(len(characters) + 1, dtype=bool)
    codes = np.frombuffer(characters.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kept[:-1] = ~np.isin(codes, [ord(each) for each in APOSTROPHES])
    found, total = origin[kept], len(clean(text)) + 1
    # Hangul that is composed of parts, and the like: an even spread is the best that can be said.
    return found if len(found) == total else np.linspace(0, len(text), total).astype(np.int64)


def word_spans(cleaned: str) -> tuple[Positions, Positions]:
    """First character of each word and the one after its last: the words of `words_of`, in their order."""
    classes = _classes_of(cleaned)
    kept = np.flatnonzero(classes != IGNORED)
    padded = np.concatenate(([SEPARATOR], classes[kept], [SEPARATOR]))
    here, before, after = padded[1:-1], padded[:-2], padded[2:]
    begins = ((here == WORD) & (before != WORD)) | (here == IDEOGRAPH)
    ends = ((here == WORD) & (after != WORD)) | (here == IDEOGRAPH)
    return kept[begins], kept[ends] + 1


def words_in(cleaned: str, spans: tuple[Positions, Positions]) -> list[str]:
    """The words themselves, as they are compared."""
    words = [cleaned[start:end].casefold() for start, end in zip(*(side.tolist() for side in spans), strict=True)]
    return [word if word.isalnum() else _without_ignored(word) for word in words]


def _unescaped(match: re.Match[str]) -> str:
    return html.unescape(f"&{match.group(1)};")


def _without_ignored(word: str) -> str:
    return "".join(each for each in word if _class(each) != IGNORED)


@cache
def _class(character: str) -> int:
    return character_class(character)


@cache
def _ascii_classes() -> bytes:
    return bytes(character_class(chr(code)) if code < 128 else SEPARATOR for code in range(256))


def _classes_of(text: str) -> NDArray[np.uint8]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(_ascii_classes()), dtype=np.uint8)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    unique, inverse = np.unique(codes, return_inverse=True)
    return np.array([_class(chr(code)) for code in unique.tolist()], dtype=np.uint8)[inverse]


def _unescaped_from(text: str) -> tuple[str, Positions]:
    pieces, origin, done = list[str](), list[Positions](), 0
    for match in ENTITY.finditer(text):
        new = _unescaped(match)
        pieces += [text[done : match.start()], new]
        origin += [np.arange(done, match.start()), np.full(len(new), match.start())]
        done = match.end()
    return "".join([*pieces, text[done:]]), np.concatenate([*origin, np.arange(done, len(text) + 1)])


def _composed(text: str, origin: Positions) -> tuple[str, Positions]:
    """NFKC, cluster by cluster: a character with the marks that follow it."""
    pieces, sizes, starts, start = list[str](), list[int](), list[int](), 0
    for at in range(1, len(text) + 1):
        if at < len(text) and unicodedata.combining(text[at]):
            continue
        pieces.append(unicodedata.normalize("NFKC", text[start:at]))
        sizes.append(len(pieces[-1]))
        starts.append(start)
        start = at
    return "".join(pieces), np.append(np.repeat(origin[starts], sizes), origin[-1])

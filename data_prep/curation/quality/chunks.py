"""Splits a run of non-space characters into words: punctuation at its ends and inside it, as spaCy's English does.

Linear in the length of the run, whatever it holds: the ends are moved by index, never by copying the rest.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

from data_prep.curation.quality.special import special_words

SPECIAL = special_words()
_LONGEST_SPECIAL = max(map(len, SPECIAL))
_LONG = 2 * _LONGEST_SPECIAL
_LONGEST_URL = 2000
LONGEST_RUN = 50_000
"""Characters of a run beyond which it is left whole: nobody writes such, and a megabyte of "a-a-" takes seconds."""
_SPECIAL_PAIRS = frozenset(word[i : i + 2] for word in SPECIAL for i in range(len(word) - 1))
_SPECIAL_BEGINNINGS = frozenset(word[:i] for word in SPECIAL for i in range(1, len(word) + 1))

_PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_UNITS_TEXT = """
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph
hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г
мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб US$ C$ A$
"""
UNITS = _UNITS_TEXT.split()
_SYMBOL_RANGES = ((0xA6, 0x3400), (0x4DC0, 0x4E00), (0xA490, 0xAB00), (0xFDFD, 0x10000), (0x1D000, 0x1FB00))

_AFFIX = frozenset(_PUNCTUATION + _QUOTES + "—–")
_AFFIX_NO_ELLIPSIS = _AFFIX - {"…"}
_PREFIX = _AFFIX | frozenset("§%=" + _CURRENCY)
_BEFORE_FULL_STOP = frozenset("0123456789%²-+|" + _PUNCTUATION + _QUOTES)
_LONGEST_UNIT = max(map(len, UNITS))
_UNIT_SET = frozenset(UNITS)
_UNIT_ENDS = frozenset(unit[-1] for unit in UNITS) | frozenset(_CURRENCY + "+")
_DIGITS = frozenset("0123456789")
_MINUS_OR_DIGIT = _DIGITS | {"-"}
_QUOTE_SET = frozenset(_QUOTES)

_PLAIN = re.compile(r"([A-Za-z]+)([,;:!?)\"]|(?<=[a-z])\.)?").fullmatch
_URL = re.compile(
    r"(?:[\w+.-]{2,}://)?(?:\S+@)?"
    r"(?:(?!10\.|127\.|169\.254\.|192\.168\.)[1-9]\d{0,2}(?:\.\d{1,3}){3}"
    r"|(?:(?:[A-Za-z0-9\u00a1-\uffff][A-Za-z0-9\u00a1-\uffff_-]{0,62})?[A-Za-z0-9\u00a1-\uffff]\.)+"
    r"(?:(?![A-Z\d_])\w){2,63})"
    r"(?::\d{2,5})?(?:[/?#]\S*)?"
).fullmatch


@cache
def symbols() -> frozenset[str]:
    """Pictures and emoji: the characters of Unicode category So."""
    codes = (chr(code) for low, high in _SYMBOL_RANGES for code in range(low, high))
    return frozenset(character for character in codes if unicodedata.category(character) == "So")


@cache
def _candidates() -> Callable[[str], Iterator[re.Match[str]]]:
    """Finds whatever may divide a run from inside; its neighbours decide."""
    return re.compile(rf"[,:<>=/+*^~–…{''.join(sorted(symbols()))}]|\.+|-+|—+").finditer


_ASCII_CANDIDATES = re.compile(r"\.+|[,:<>=/+*^~]|-+").finditer


def split_chunk(chunk: str) -> tuple[str, ...]:
    """The words of a run of non-space characters; joined, they are the run."""
    if len(chunk) > LONGEST_RUN:
        return (chunk,)
    special = SPECIAL.get(chunk)
    if special is not None:
        return special
    plain = _PLAIN(chunk)
    if plain and (plain[2] is None or plain[1] not in SPECIAL):
        return (chunk,) if plain[2] is None else plain.groups()
    low, high, last = 0, len(chunk), -1
    prefixes: list[str] = []
    suffixes: list[str] = []
    while low < high and high - low != last and not _special(chunk, low, high):
        while high - low > _LONG and chunk[low] in _PREFIX and chunk[high - 1] in _AFFIX_NO_ELLIPSIS:
            prefixes.append(chunk[low])  # the general way, in short: nothing so long is special
            suffixes.append(chunk[high - 1])
            low, high = low + 1, high - 1
        last = high - low
        prefix = _prefix_length(chunk, low, high)
        if prefix and _special(chunk, low + prefix, high):
            prefixes.append(chunk[low : low + prefix])
            low += prefix
            break
        suffix = _suffix_length(chunk, low + prefix, high)
        if suffix and _special(chunk, low, high - suffix):
            suffixes.append(chunk[high - suffix : high])
            high -= suffix
            break
        if prefix:
            prefixes.append(chunk[low : low + prefix])
            low += prefix
        if suffix:
            suffixes.append(chunk[high - suffix : high])
            high -= suffix
    middle = _split_middle(chunk[low:high]) if low < high else ()
    return _merge_special((*prefixes, *middle, *reversed(suffixes)))


def _special(chunk: str, low: int, high: int) -> bool:
    return 0 < high - low <= _LONGEST_SPECIAL and chunk[low:high] in SPECIAL


def _prefix_length(chunk: str, low: int, high: int) -> int:
    first = chunk[low]
    if first in _PREFIX or (first > "\x7f" and first in symbols()):
        return 1
    if first == "+":
        return 0 if low + 1 < high and chunk[low + 1] in _DIGITS else 1
    if first == ".":
        end = low
        while end < high and chunk[end] == ".":
            end += 1
        return end - low if end - low > 1 else 0
    if first in "UCA" and chunk.startswith(("US$", "C$", "A$"), low, high):
        return chunk.index("$", low) + 1 - low
    return 0


def _suffix_length(chunk: str, low: int, high: int) -> int:
    if low >= high:
        return 0
    final = chunk[high - 1]
    if final in "sS" and high - low >= 2 and chunk[high - 2] in "'’":
        return 2
    if final == ".":
        return _full_stop_length(chunk, low, high)
    unit = _unit_length(chunk, low, high)
    if unit:
        return unit
    if final == "…" and chunk.endswith("……", low, high):
        return 2
    return int(final in _AFFIX or (final > "\x7f" and final in symbols()))


def _full_stop_length(chunk: str, low: int, high: int) -> int:
    start = high - 1
    while start > low and chunk[start - 1] == ".":
        start -= 1
    if high - start > 1:
        return high - start
    if start == low:
        return 0
    before = chunk[start - 1]
    if before in _BEFORE_FULL_STOP or (before.isalpha() and not before.isupper()):
        return 1
    two_capitals = start - low >= 2 and _is_capital(before) and _is_capital(chunk[start - 2])
    degrees = start - low >= 2 and before in "FfCcKk" and chunk[start - 2] == "°"
    return int(two_capitals or degrees)


def _is_capital(character: str) -> bool:
    return character.isalpha() and not character.islower()


def _unit_length(chunk: str, low: int, high: int) -> int:
    """Of "5km": 2. Units, currencies and "+" count only right after a digit."""
    if chunk[high - 1] not in _UNIT_ENDS:
        return 0
    for start in range(high - 1, max(low, high - _LONGEST_UNIT - 1), -1):
        if chunk[start - 1] in _DIGITS:  # no unit holds a digit: the last one decides
            tail = chunk[start:high]
            return high - start if tail in _UNIT_SET or tail == "+" or (len(tail) == 1 and tail in _CURRENCY) else 0
    return 0


def _split_middle(text: str) -> tuple[str, ...]:
    special = SPECIAL.get(text)
    if special is not None:
        return special
    if text.isalnum():
        return (text,)
    if len(text) <= _LONGEST_URL and "." in text and _URL(text):
        return (text,)
    words: list[str] = []
    start = 0
    for match in (_ASCII_CANDIDATES if text.isascii() else _candidates())(text):
        low = match.start()
        high = _infix_end(text, low, match.end()) if low else 0
        if not high:
            continue
        if low > start:
            words.append(text[start:low])
        words.append(text[low:high])
        start = high
    if start < len(text):
        words.append(text[start:])
    return tuple(words)


def _infix_end(text: str, low: int, high: int) -> int:
    """Where the infix that begins at `low` ends, of a candidate that ends at `high`; 0: it divides nothing."""
    mark, before, after = text[low], text[low - 1], text[high : high + 1]
    if mark == ".":
        return high if high - low > 1 or _divides(before, after) else 0
    if mark == ",":
        return high if before.isalpha() and after.isalpha() else 0
    if before in _DIGITS and mark in "+-*^" and (text[low + 1 : low + 2] in _MINUS_OR_DIGIT):
        return low + 1
    if mark in "+*^":
        return 0
    if mark in ":<>=/-–—~":
        longest = {"-": 3, "—": 2}.get(mark, 1)
        divides = after.isalpha() and (before.isalpha() or before in _DIGITS)
        return high if high - low <= longest and divides else 0
    return high


def _divides(before: str, after: str) -> bool:
    """Whether a full stop ends a sentence that the next one follows without a space: "end.Next", not "e.g"."""
    ends = before in _QUOTE_SET or (before.isalpha() and not before.isupper())
    return ends and bool(after) and (after in _QUOTE_SET or (after.isalpha() and not after.islower()))


def _merge_special(words: tuple[str, ...]) -> tuple[str, ...]:
    """Special words that punctuation rules have split, such as ":" and ")", are put together again."""
    if len(words) < 2 or _SPECIAL_PAIRS.isdisjoint([left[-1] + right[0] for left, right in pairwise(words)]):
        return words
    merged: list[str] = []
    position, last = 0, len(words) - 1
    while position <= last:
        word = words[position]
        if position == last or word + words[position + 1] not in _SPECIAL_BEGINNINGS:
            merged.append(word)
            position += 1
            continue
        end, text = position, word
        for ahead in range(position + 1, last + 1):
            text += words[ahead]
            if text not in _SPECIAL_BEGINNINGS:
                break
            if text in SPECIAL:
                end = ahead
        merged.extend(SPECIAL["".join(words[position : end + 1])] if end > position else (word,))
        position = end + 1
    return tuple(merged)

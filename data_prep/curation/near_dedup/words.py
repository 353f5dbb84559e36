"""Words of many texts at once, as 64-bit hashes, without a Python loop over words.

The rule: a text is casefolded. Letters, marks and numbers (Unicode categories L, M, N) make words, format characters
(Cf: zero-width, direction, soft hyphen) and variation selectors are as if they were not there, and all else separates.
Of scripts written without spaces (Han, kana, Bopomofo, Thai, Lao, Khmer, Myanmar) each character is a word by itself.
Composed and decomposed letters differ: bring the text to NFC before.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SEPARATOR, WORD, IDEOGRAPH, IGNORED, INSIDE = range(5)
"""Classes of characters. INSIDE marks the later bytes of an ideograph: it continues a word, and begins none."""

VARIATION_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # South-East Asia
    *((0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),  # kana, Bopomofo
    *((0x3005, 0x3007), (0x302A, 0x302D), (0x3190, 0x319F), (0x1D372, 0x1D376)),  # marks of Han
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Han
)
LONG_WORD = 256
"""Bytes beyond which a word is hashed by itself: thousands of 8-byte steps for one word would cost seconds."""

LENGTH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
STEP_FACTOR = np.uint64(0xFF51AFD7ED558CCD)
LAST_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)
SHIFT = np.uint64(32)
LEADING_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], dtype=np.uint64)
"""Masks that keep the first 0 … 8 bytes of a little-endian load."""

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The words of a batch of texts: hashes in reading order; text i has those of offsets[i]:offsets[i + 1]."""

    hashes: Hashes
    offsets: Positions


def character_class(character: str) -> int:
    """The class of one character; the rule is at the top of this module."""
    category, codepoint = unicodedata.category(character), ord(character)
    if category == "Cf" or _within(codepoint, VARIATION_SELECTORS):
        return IGNORED
    if category[0] not in "LMN":
        return SEPARATOR
    return IDEOGRAPH if _within(codepoint, UNSPACED) else WORD


def words_of(texts: Sequence[str]) -> Words:
    """Split texts into words and hash them. Lone surrogates and NUL separate words like punctuation."""
    parts = [text.casefold().encode("utf-8", "surrogatepass") for text in texts]
    joined = bytearray(b"\n".join([b"", *parts, bytes(8)]))  # the zeros let the last words be loaded 8 bytes at a time
    bounds = np.cumsum([1, *(len(part) + 1 for part in parts)])
    buffer = np.frombuffer(joined, dtype=np.uint8)
    classes = np.frombuffer(joined.translate(_ascii_classes()), dtype=np.uint8)
    if not joined.isascii():
        _classify_beyond_ascii(buffer, classes)
        buffer, classes, bounds = _without_ignored(buffer, classes, bounds)
    starts, ends = _word_bounds(classes)
    return Words(_hash_words(buffer, starts, ends), np.searchsorted(starts, bounds).astype(np.int64))


def mix(hashes: Hashes) -> Hashes:
    """Spread every bit over all bits, in place (the finaliser of MurmurHash3 with wider shifts)."""
    hashes ^= hashes >> SHIFT
    hashes *= STEP_FACTOR
    hashes ^= hashes >> SHIFT
    hashes *= LAST_FACTOR
    hashes ^= hashes >> SHIFT
    return hashes


def _within(codepoint: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= codepoint <= last for first, last in ranges)


@cache
def _ascii_classes() -> bytes:
    return bytes(character_class(chr(code)) if code < 128 else SEPARATOR for code in range(256))


@cache
def _classes() -> NDArray[np.uint8]:
    """The class of every code point; planes 4 to 13 are unassigned, 15 and 16 private: separators."""
    classes = np.zeros(0x110000, dtype=np.uint8)
    for block in (range(0x40000), range(0xE0000, 0xE0200)):
        classes[block.start : block.stop] = [character_class(chr(code)) for code in block]
    return classes


def _classify_beyond_ascii(buffer: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """Write the classes of all UTF-8 sequences of 2 to 4 bytes into `classes`, per byte."""
    leads = np.flatnonzero(buffer >= 0xC0)
    lead_bytes = buffer[leads]
    for length, low, high in ((2, 0xC0, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8)):
        at = leads[(lead_bytes >= low) & (lead_bytes < high)]
        codepoints = buffer[at].astype(np.int32) & (0x7F >> length)
        for byte in range(1, length):
            codepoints = codepoints << 6 | (buffer[at + byte] & 0x3F)
        found = _classes()[codepoints]
        classes[at] = found
        found[found == IDEOGRAPH] = INSIDE
        for byte in range(1, length):
            classes[at + byte] = found


def _without_ignored(
    buffer: NDArray[np.uint8], classes: NDArray[np.uint8], bounds: Positions
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Positions]:
    ignored = np.flatnonzero(classes == IGNORED)
    if not ignored.size:
        return buffer, classes, bounds
    kept = classes != IGNORED
    return buffer[kept], classes[kept], bounds - np.searchsorted(ignored, bounds)


def _word_bounds(classes: NDArray[np.uint8]) -> tuple[Positions, Positions]:
    """First byte of each word and the byte after its last; the buffer begins and ends with separators."""
    if not (classes == IDEOGRAPH).any():
        is_word = classes == WORD
        edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
        return edges[0::2], edges[1::2]
    here, before, after = classes[1:-1], classes[:-2], classes[2:]
    begins = ((here == WORD) & (before != WORD)) | (here == IDEOGRAPH)
    finishes = ((here == WORD) & (after != WORD)) | ((here == IDEOGRAPH) | (here == INSIDE)) & (after != INSIDE)
    return np.flatnonzero(begins) + 1, np.flatnonzero(finishes) + 2


def _hash_words(buffer: NDArray[np.uint8], starts: Positions, ends: Positions) -> Hashes:
    """One hash per word from its UTF-8 bytes, 8 at a time; words that go on are worked on in ever fewer steps."""
    loads = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer.data, strides=(1,))
    lengths = ends - starts
    hashes = _step(lengths.astype(np.uint64) * LENGTH_FACTOR, loads, starts, lengths)
    longer = np.flatnonzero(lengths > 8)
    for done in range(8, LONG_WORD, 8):
        if not longer.size:
            break
        hashes[longer] = _step(hashes[longer], loads, starts[longer] + done, lengths[longer] - done)
        longer = longer[lengths[longer] > done + 8]
    for word in longer.tolist():
        digest = blake2b(buffer[starts[word] : ends[word]].tobytes(), digest_size=8).digest()
        hashes[word] = int.from_bytes(digest, "little")
    return mix(hashes)


def _step(hashes: Hashes, loads: Hashes, at: Positions, left: Positions) -> Hashes:
    hashes ^= loads[at] & LEADING_BYTES[np.minimum(left, 8)]
    hashes *= STEP_FACTOR
    hashes ^= hashes >> SHIFT
    return hashes

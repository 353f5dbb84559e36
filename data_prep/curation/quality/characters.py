"""Classes of characters: each code point is mapped to one byte, which most rules need only."""

from functools import cache

import numpy as np
import numpy.typing as npt

OTHER, SPACE, LINE_BREAK, FULL_STOP, ELLIPSIS, BULLET = 0x80, 0x81, 0x82, 0x83, 0x84, 0x85


def _characters(ranges: str) -> frozenset[str]:
    """The characters of hexadecimal code point ranges such as "21 2e-3f"."""
    pairs = (part.partition("-") for part in ranges.split())
    return frozenset(chr(code) for low, _, high in pairs for code in range(int(low, 16), int(high or low, 16) + 1))


SENTENCE_ENDS = _characters(
    "21 2e 3f 589 61f 6d4 700-702 7f9 964-965 104a-104b 1362 1367-1368 166e 1735-1736 1803 1809 1944-1945 1aa8-1aab "
    "1b5a-1b5b 1b5e-1b5f 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 "
    "a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 11047-11048 "
    "110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 "
    "115c9-115d7 11641-11642 1173c-1173e 11a42-11a43 11a9b-11a9c 11c41-11c42 16a6e-16a6f 16af5 16b37-16b38 16b44 1bc9f "
    "1da88"
)
"""The full stops, question and exclamation marks of all scripts at which spaCy's sentencizer ends a sentence."""

TERMINAL = SENTENCE_ENDS | _characters(
    "61d-61e 837 839 83d-83e 17d4-17d6 17d9-17da 1b7d-1b7e 2e53-2e54 10f55-10f59 10f86-10f89 11944 11946 11ef7-11ef8 "
    "11f43-11f44 16e98"
)
"""The characters that FineWeb takes for the end of a line of prose."""

PUNCTUATION = TERMINAL | _characters(
    "0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 3008-300d "
    "3010-3011 ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"
)
"""A word of these alone is a symbol, no word, to Gopher's rules (datatrove's set)."""

_WIDE_SPACES = _characters("85 a0 1680 2000-200a 2028-2029 202f 205f 3000")


@cache
def kinds() -> npt.NDArray[np.uint8]:
    """For every code point itself, where it is ASCII, or one of the classes above ASCII."""
    table = np.full(0x110000, OTHER, np.uint8)
    table[:128] = np.arange(128)
    for characters, kind in ((_WIDE_SPACES, SPACE), ("\x85\u2028\u2029", LINE_BREAK), ("…", ELLIPSIS), ("•", BULLET)):
        table[[ord(character) for character in characters]] = kind
    table[[ord(character) for character in TERMINAL if character > "\x7f"]] = FULL_STOP
    return table


def byte_kinds(text: bytes) -> npt.NDArray[np.uint8]:
    """[B] the kind of the character that each byte of UTF-8 belongs to; of ASCII the text itself, uncopied."""
    if text.isascii():
        return np.frombuffer(text, np.uint8)
    found = np.frombuffer(bytearray(text), np.uint8)
    leads = np.flatnonzero(found >= 0xC0)
    lead_bytes = found[leads]
    for length, low, high in ((2, 0xC0, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8)):
        at = leads[(lead_bytes >= low) & (lead_bytes < high)]
        codes = found[at].astype(np.int32) & (0x7F >> length)
        for byte in range(1, length):
            codes = codes << 6 | (found[at + byte] & 0x3F)
        kind = kinds().take(codes)
        for byte in range(length):
            found[at + byte] = kind
    return found


def _among(*members: int) -> npt.NDArray[np.bool_]:
    flags = np.zeros(256, np.bool_)
    flags[list(members)] = True
    return flags


IS_SPACE = _among(*range(9, 14), *range(0x1C, 0x21), SPACE, LINE_BREAK)
"""By kind: what str.isspace says."""

SPACES = IS_SPACE.tobytes()
"""The same as a table for bytes.translate."""

IS_LINE_BREAK = _among(*range(10, 14), 0x1C, 0x1D, 0x1E, LINE_BREAK)
"""By kind: where str.splitlines divides."""

OTHER_LINE_BREAKS = (b"\r", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e", bytes([LINE_BREAK]))
"""The kinds at which str.splitlines divides, and str.split("\\n") does not."""

IS_TERMINAL = _among(*map(ord, ".?!"), FULL_STOP)
"""By kind: membership of TERMINAL."""

ENDS_C4_LINE = _among(*map(ord, ".?!\"'"))
"""By kind: the ends of lines that C4 keeps."""

"""64-bit hashes of many byte spans at once, without a Python loop over them."""

from functools import cache, lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PADDING = 16
"""Bytes that a buffer needs after its last span, because spans are read 8 bytes at a time."""

LONG_SPAN = 256
"""Bytes beyond which a span is hashed by itself: thousands of steps for one span would cost seconds."""

BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(BASE, -1, 1 << 64)
_STEP = np.uint64(0xFF51AFD7ED558CCD)
_LAST = np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(32)
_LEADING = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)


def span_hashes(buffer: Bytes, starts: Ints, ends: Ints) -> Hashes:
    """One hash per span [N] of a buffer that ends in PADDING further bytes; never 0."""
    loads = unaligned(buffer)
    lengths = ends - starts
    hashes = _step(lengths.astype(np.uint64) * np.uint64(BASE), loads, starts, lengths)
    longer = np.flatnonzero(lengths > 8)
    at, left, part = starts[longer] + 8, lengths[longer] - 8, hashes[longer]
    for _ in range(8, LONG_SPAN, 8):
        if not len(longer):
            break
        part = _step(part, loads, at, left)
        hashes[longer] = part
        on = np.flatnonzero(left > 8)
        longer, at, left, part = longer[on], at[on] + 8, left[on] - 8, part[on]
    for span in longer.tolist():
        digest = blake2b(buffer[starts[span] : ends[span]].tobytes(), digest_size=8).digest()
        hashes[span] = int.from_bytes(digest, "little")
    hashes = finished(hashes)
    hashes |= np.uint64(1)
    return hashes


def unaligned(buffer: Bytes) -> Hashes:
    """The eight bytes that begin at each byte of a buffer, as a view; index it, for `take` would copy it first."""
    return np.ndarray((max(len(buffer) - 7, 0),), dtype="<u8", buffer=buffer.data, strides=(1,))


def finished(hashes: Hashes) -> Hashes:
    """Spread every bit over all bits, in place (the finaliser of MurmurHash3 with wider shifts)."""
    hashes ^= hashes >> _HALF
    hashes *= _STEP
    hashes ^= hashes >> _HALF
    hashes *= _LAST
    hashes ^= hashes >> _HALF
    return hashes


def mixed(values: npt.NDArray[np.integer]) -> Hashes:
    """A well spread 64-bit number for every number."""
    return finished(values.astype(np.uint64) + np.uint64(BASE))


def _step(hashes: Hashes, loads: Hashes, at: Ints, left: Ints) -> Hashes:
    hashes ^= loads[at] & _LEADING.take(left, mode="clip")
    hashes *= _STEP
    hashes ^= hashes >> _HALF
    return hashes


@cache
def _byte_values() -> Hashes:
    return mixed(np.arange(256))


class Joinable:
    """Hashes of byte spans of one buffer that can be joined: hash(ab) = hash(a) + scale(a) · hash(b)."""

    def __init__(self, buffer: Bytes) -> None:
        self._powers, self._back = _powers(1 << (len(buffer) + 1).bit_length())
        self._sums = np.zeros(len(buffer) + 1, np.uint64)
        np.cumsum(_byte_values().take(buffer) * self._powers[: len(buffer)], out=self._sums[1:])

    def hashes(self, starts: Ints, ends: Ints) -> Hashes:
        """Σ value(byteⱼ)·BASEʲ of each span."""
        return (self._sums.take(ends) - self._sums.take(starts)) * self._back.take(starts)

    def scales(self, starts: Ints, ends: Ints) -> Hashes:
        """BASE to the power of each span's length."""
        return self._powers.take(ends - starts)


@lru_cache(maxsize=1)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """BASE⁰ … BASE^(count-1) modulo 2⁶⁴, and their inverses."""
    factors = np.full((2, count), [[BASE], [_INVERSE]], np.uint64)
    factors[:, 0] = 1
    np.multiply.accumulate(factors, axis=1, out=factors)
    return factors[0], factors[1]

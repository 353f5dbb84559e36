"""Word n-grams (shingles) of many texts as 64-bit hashes, and their MinHash signatures."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.near_dedup.signatures import Signatures, record
from data_prep.curation.near_dedup.words import LENGTH_FACTOR, STEP_FACTOR, Hashes, Positions, Words, mix, words_of
from data_prep.progress import Track, silent

BATCH_CHARACTERS = 1_000_000
BATCH_TEXTS = 4096
"""Texts are worked on in batches that fit the processor's cache."""
SIGNED_AT_ONCE = 128
"""Signatures come out of rensa as lists of Python's integers: few enough of them to stay in the cache."""


@dataclass(frozen=True)
class Shingles:
    """Shingle hashes of a batch of texts, with repeats; text i has those of offsets[i]:offsets[i + 1], at least one."""

    hashes: Hashes
    offsets: Positions


def shingle(texts: Sequence[str], words: int) -> Shingles:
    """Hash every run of `words` words; a text with fewer is one shingle, one without words is hashed as it is."""
    found = words_of(texts)
    counts = np.diff(found.offsets)
    offsets = np.concatenate(([0], np.cumsum(np.maximum(counts - words + 1, 1))))
    hashes = np.empty(offsets[-1], dtype=np.uint64)
    short = np.flatnonzero(counts < words)
    is_run = np.ones(len(hashes), dtype=bool)
    is_run[offsets[short]] = False
    hashes[is_run] = _runs(found, words)
    hashes[offsets[short]] = _whole(texts, found, short, words)
    return Shingles(mix(hashes), offsets)


def sign(texts: Sequence[str], words: int, permutations: int, seed: int, track: Track = silent) -> Signatures:
    """Signatures of all texts (of one shard), batch by batch; those of a text do not depend on the others."""
    records = np.empty(len(texts), dtype=record(permutations))
    characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    records["characters"] = characters
    batches = list(_batches(characters))
    for batch in track(batches, "near duplicates: signatures", total=len(batches)):
        shingles = shingle(texts[batch], words)
        records["signature"][batch] = _minhash(shingles, permutations, seed)
        records["fingerprint"][batch] = np.add.reduceat(shingles.hashes, shingles.offsets[:-1])
        records["shingles"][batch] = np.diff(shingles.offsets)
    return Signatures(records)


def _minhash(shingles: Shingles, permutations: int, seed: int) -> NDArray[np.uint32]:
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs

    offsets = shingles.offsets.astype(np.uint64)
    matrix = np.empty((len(offsets) - 1, permutations), dtype=np.uint32)
    for start in range(0, len(matrix), SIGNED_AT_ONCE):
        part = offsets[start : start + SIGNED_AT_ONCE + 1]
        hashes = shingles.hashes[int(part[0]) : int(part[-1])]
        digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, part - part[0], permutations, seed)
        values = b"".join([array("I", row) for row in digests.to_rows()])  # faster than np.array on nested lists
        matrix[start : start + SIGNED_AT_ONCE] = np.frombuffer(values, dtype=np.uint32).reshape(-1, permutations)
    return matrix


def _batches(characters: Positions) -> Iterator[slice]:
    """Slices of texts with BATCH_CHARACTERS or BATCH_TEXTS at most, or of one longer text."""
    ends, start = np.cumsum(characters), 0
    while start < len(characters):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + BATCH_CHARACTERS, side="right"))
        stop = min(max(stop, start + 1), start + BATCH_TEXTS)
        yield slice(start, min(stop, len(characters)))
        start = stop


def _factor(place: int) -> np.uint64:
    """An odd factor per place in the shingle, so that the order of its words counts."""
    return np.uint64((int(STEP_FACTOR) * (2 * place + 1) ** 7 + (int(LENGTH_FACTOR) << (place + 1))) % 2**64 | 1)


def _runs(found: Words, words: int) -> Hashes:
    """All runs of `words` words within one text, unmixed."""
    total = len(found.hashes)
    inside = np.ones(total, dtype=bool)
    for back in range(1, words):
        last = found.offsets[1:] - back
        inside[last[last >= found.offsets[:-1]]] = False
    runs = np.zeros(max(total - words + 1, 0), dtype=np.uint64)
    for place in range(words):
        runs += found.hashes[place : place + len(runs)] * _factor(place)
    return runs[inside[: len(runs)]]


def _whole(texts: Sequence[str], found: Words, short: Positions, words: int) -> Hashes:
    """One hash for each of the texts `short` that have fewer than `words` words, unmixed."""
    starts, counts = found.offsets[short], found.offsets[short + 1] - found.offsets[short]
    hashes = np.zeros(len(short), dtype=np.uint64)
    for place in range(words - 1):
        longer = np.flatnonzero(counts > place)
        hashes[longer] += found.hashes[starts[longer] + place] * _factor(place)
    for wordless in np.flatnonzero(counts == 0).tolist():
        text = texts[int(short[wordless])].casefold().encode("utf-8", "surrogatepass")
        hashes[wordless] = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
    return hashes

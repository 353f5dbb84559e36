"""The n-grams of all evaluation items, as arrays in one file that every worker maps into its memory.

Per distinct n-gram 8 + 4 bytes and 2 to 4 of a bitmap, per word 8 + 4 + 4 + 4, so at most 36 bytes per word of the
items, and the texts themselves. Equal items give equal bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.items import Unit, units_of
from data_prep.curation.decontamination.ngrams import ngrams, within_text
from data_prep.curation.decontamination.text import word_spans, words_in
from data_prep.curation.near_dedup.words import Words, words_of
from data_prep.errors import DataError
from data_prep.rows import write_whole
from data_prep.strict import measured_part

MAGIC = b"provetune decontamination 1\n"
ALIGNED = 64
NONE = np.uint32(0xFFFFFFFF)
"""In `gram_at`: no n-gram begins at this word, so near the end of its unit."""
COMMON = np.uint32(0xFFFFFFFE)
"""In `gram_at`: an n-gram begins here that is boilerplate of the evaluation, and not in the index."""
BITS_PER_GRAM = 16
REMEMBERED = 4096
"""Units whose words are kept, for items that are found again and again."""

_TYPES = {
    "grams": "<u8",
    "first": "<u4",
    "places": "<u4",
    "bitmap": "u1",
    "words": "<u8",
    "gram_at": "<u4",
    "weights": "<f4",
    "offsets": "<i8",
    "questions": "<i8",
    "texts": "u1",
    "text_offsets": "<i8",
}


class Named(NamedTuple):
    """Whose text a unit is."""

    dataset: str
    item: str
    side: str


@dataclass(frozen=True)
class Index:
    """The arrays, over distinct n-grams, over places (words of all units, one after the other) or over units."""

    names: list[Named]
    """Per unit."""
    numbers: dict[str, dict[str, int]]
    """Per data set: items, units, words, too_short, boilerplate (units that cannot be found)."""
    lengths: list[int]
    """Words of the n-grams: n, and those of units with fewer words."""
    arrays: dict[str, NDArray[Any]]
    """`grams`: sorted hashes; `places[first[g]:first[g + 1]]`: where n-gram g begins, once per unit; `bitmap`: a bit
    for the leading bits of each hash; `words`: their hashes; `gram_at`: the n-gram that begins at a place, COMMON or
    NONE; `weights`: ln(1 + units / units with that word); `offsets`: first place of each unit; `questions`: its first
    words that must be found too; `texts`, `text_offsets`: the cleaned texts as UTF-8."""

    @cached_property
    def unit_lengths(self) -> NDArray[np.int64]:
        """Words of each unit."""
        return np.diff(self.arrays["offsets"])

    @cached_property
    def unit_grams(self) -> NDArray[np.int64]:
        """Distinct n-grams of each unit."""
        units = np.searchsorted(self.arrays["offsets"], self.arrays["places"], side="right") - 1
        return np.bincount(units, minlength=len(self.names)).astype(np.int64)

    @cached_property
    def bitmap_shift(self) -> int:
        """How far a hash is shifted to give the number of its bit."""
        return 64 - (len(self.arrays["bitmap"]) * 8).bit_length() + 1

    def text(self, unit: int) -> str:
        """The cleaned text of a unit."""
        start, end = self.arrays["text_offsets"][unit : unit + 2].tolist()
        return self.arrays["texts"][start:end].tobytes().decode("utf-8", "surrogatepass")

    def unit_words(self, unit: int) -> list[str]:
        """The words of a unit, as they are compared."""
        if unit not in self._split:
            if len(self._split) >= REMEMBERED:
                self._split.clear()
            text = self.text(unit)
            self._split[unit] = words_in(text, word_spans(text))
        return self._split[unit]

    @cached_property
    def _split(self) -> dict[int, list[str]]:
        return {}

    def unit_weights(self, unit: int) -> NDArray[np.float64]:
        """The weight of each word of a unit."""
        start, end = self.arrays["offsets"][unit : unit + 2].tolist()
        return self.arrays["weights"][start:end].astype(np.float64)

    def gram_length(self, unit: int) -> int:
        """Words of the n-grams of a unit."""
        return min(self.lengths[-1], int(self.unit_lengths[unit]))


def build_index(folders: dict[str, Path], config: Decontamination, path: Path) -> Index:
    """Write the index of the data sets (name → dataset folder; all their splits) to `path`, whole or not at all.

    Raises:
        DataError: `config.against` names a data set that is not among `folders`.
    """
    chosen = folders if config.against is None else {}
    for name in config.against or []:
        if name not in folders:
            have = ", ".join(sorted(folders)) or "none"
            raise DataError(f"decontamination.against: {name} is no data set of this run; there are {have}")
        chosen[name] = folders[name]
    index = index_units(units_of(chosen, config), config)
    write_whole(path, _bytes(index, config))
    return index


def index_units(units: Iterable[Unit], config: Decontamination) -> Index:
    """The index of these units, in memory."""
    numbers, usable = dict[str, dict[str, int]](), list[Unit]()
    items = dict[tuple[str, str], int]()
    for unit in units:
        counted = numbers.setdefault(unit.dataset, dict.fromkeys(("items", "units", "words", "too_short"), 0))
        counted["items"] += (unit.dataset, unit.item) not in items
        items.setdefault((unit.dataset, unit.item), len(items))
        counted["units"] += 1
        counted["words"] += len(unit.words)
        fewest = config.min_words if unit.side in ("text", "prompt") else config.min_answer_words
        long_enough = len(unit.words) >= fewest and len(unit.text) >= config.min_characters
        counted["too_short"] += not long_enough
        usable += [unit] * long_enough
    names = [Named(unit.dataset, unit.item, unit.side) for unit in usable]
    words = words_of([unit.text for unit in usable])
    lengths = sorted({min(config.n, int(length)) for length in np.diff(words.offsets)} | {config.n})
    item_of = np.array([items[unit.dataset, unit.item] for unit in usable], dtype=np.int64)
    datasets = np.array([sorted(numbers).index(unit.dataset) for unit in usable], dtype=np.int64)
    limits = [
        max(config.min_documents, int(config.max_item_share * numbers[name]["items"])) for name in sorted(numbers)
    ]
    hashes, begins = _occurrences(words, config.n, lengths)
    arrays = _without_boilerplate(words, hashes, begins, item_of, datasets, np.array(limits, dtype=np.int64))
    arrays["questions"] = np.array([unit.question for unit in usable], dtype=np.int64)
    arrays["weights"] = _weights(words)
    texts = [unit.text.encode("utf-8", "surrogatepass") for unit in usable]
    arrays["texts"] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    arrays["text_offsets"] = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    index = Index(names, numbers, lengths, {name: arrays[name].astype(_TYPES[name], copy=False) for name in _TYPES})
    for name in numbers:
        lost = np.flatnonzero(index.unit_grams == 0).tolist()
        numbers[name]["boilerplate"] = sum(names[unit].dataset == name for unit in lost)
    return index


def open_index(path: Path) -> Index:
    """Map an index into memory.

    Raises:
        DataError: the file is missing, is no index, or is not whole.
    """
    again = "delete it and run the filter again"
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DataError(f"{path}: not a decontamination index of this version; {again}")
            head = json.loads(file.readline())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no decontamination index; run the filter, which builds it") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged index ({error}); {again}") from error
    if path.stat().st_size != head["size"]:
        raise DataError(f"{path}: {path.stat().st_size} bytes instead of {head['size']}; {again}")
    mapped = np.memmap(path, mode="r")
    arrays = {
        # Plain views: each slice of a memmap would cost microseconds.
        name: np.asarray(mapped)[start : start + count * np.dtype(_TYPES[name]).itemsize].view(_TYPES[name])
        for name, (start, count) in head["arrays"].items()
    }
    names = [Named(*each) for each in json.loads(mapped[head["names"] : head["size"]].tobytes())]
    return Index(names, head["numbers"], head["lengths"], arrays)


def _bytes(index: Index, config: Decontamination) -> bytes:
    names = json.dumps(index.names, ensure_ascii=False).encode("utf-8", "surrogatepass")
    sizes = {name: len(index.arrays[name]) for name in _TYPES}
    head: dict[str, Any] = {"config": measured_part(config), "numbers": index.numbers, "lengths": index.lengths}
    room = ALIGNED * (1 + len(json.dumps({**head, "arrays": sizes})) // ALIGNED + 8)
    at, head["arrays"] = room, dict[str, Any]()
    for name, size in sizes.items():
        head["arrays"][name] = [at, size]
        at += -(-size * np.dtype(_TYPES[name]).itemsize // ALIGNED) * ALIGNED
    head["names"], head["size"] = at, at + len(names)
    out = bytearray(head["size"])
    line = MAGIC + json.dumps(head).encode() + b"\n"
    out[: len(line)] = line
    for name, (start, _) in head["arrays"].items():
        content = index.arrays[name].tobytes()
        out[start : start + len(content)] = content
    out[at:] = names
    return bytes(out)


def _occurrences(words: Words, n: int, lengths: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes and places of all n-grams; a unit with fewer than n words is one n-gram."""
    hashes, begins = list[NDArray[np.uint64]](), list[NDArray[np.int64]]()
    counts = np.diff(words.offsets)
    for length in lengths:
        found = ngrams(words, length)
        places = np.arange(len(found))
        inside, texts = within_text(words, length, places)
        if length < n:
            inside &= counts[texts] == length
        hashes.append(found[inside])
        begins.append(places[inside])
    return np.concatenate(hashes), np.concatenate(begins)


def _without_boilerplate(
    words: Words,
    hashes: NDArray[np.uint64],
    begins: NDArray[np.int64],
    item_of: NDArray[np.int64],
    datasets: NDArray[np.int64],
    limits: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """The arrays over n-grams and places, without n-grams that more items of a data set have than it may be."""
    unique, gram = np.unique(hashes, return_inverse=True)
    unit = np.searchsorted(words.offsets, begins, side="right") - 1
    pairs = np.unique(np.column_stack((gram, datasets[unit], item_of[unit])), axis=0)
    per_dataset, counts = np.unique(pairs[:, :2], axis=0, return_counts=True)
    common = np.zeros(len(unique), dtype=bool)
    common[per_dataset[counts > limits[per_dataset[:, 1]], 0]] = True
    number = np.cumsum(~common) - 1
    gram_at = np.full(len(words.hashes), NONE, dtype=np.uint32)
    gram_at[begins[common[gram]]] = COMMON
    kept = ~common[gram]
    gram, begins, unit = number[gram[kept]], begins[kept], unit[kept]
    order = np.lexsort((begins, gram))
    gram, begins, unit = gram[order], begins[order], unit[order]
    gram_at[begins] = gram
    # Once per unit: a text that repeats itself would meet a text that repeats the same at all pairs of places.
    again = np.concatenate(([False], (gram[1:] == gram[:-1]) & (unit[1:] == unit[:-1])))[: len(gram)]
    first = np.searchsorted(gram[~again], np.arange(int((~common).sum()) + 1))
    grams = unique[~common]
    arrays = {"grams": grams, "first": first, "places": begins[~again], "bitmap": _bitmap(grams)}
    return {**arrays, "words": words.hashes, "gram_at": gram_at, "offsets": words.offsets}


def _weights(words: Words) -> NDArray[np.float64]:
    """How much each word says: ln(1 + units / units that have it)."""
    units = len(words.offsets) - 1
    unit = np.repeat(np.arange(units), np.diff(words.offsets))
    word = np.unique(words.hashes, return_inverse=True)[1]
    counts = np.bincount(np.unique(word * max(units, 1) + unit) // max(units, 1))
    return np.log1p(units / counts[word]) if len(word) else np.empty(0)


def _bitmap(grams: NDArray[np.uint64]) -> NDArray[np.uint8]:
    bits = max(int(BITS_PER_GRAM * len(grams) - 1).bit_length(), 6) if len(grams) else 6
    flags = np.zeros(1 << bits, dtype=np.uint8)
    flags[(grams >> np.uint64(64 - bits)).astype(np.int64)] = 1
    return np.packbits(flags, bitorder="little")

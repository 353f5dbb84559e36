"""The key of a row: 128 bits of what is compared. Equal keys are taken for equal content.

XXH3 with 128 bits is no cryptographic hash, but on data that nobody made to collide it behaves like a random function:
among a billion different rows some pair collides with probability 1.5e-21.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.curation.exact_dedup.config import ExactDedup
from data_prep.curation.exact_dedup.url import normal_url
from data_prep.rows import Row, shape_of
from data_prep.splits import prompt_side

KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
"""16 bytes per row; both 0 for a row that has no key."""

UNCOMPARED = ("id", "source", "meta")


def keys_of(rows: Sequence[Row], config: ExactDedup) -> NDArray[Any]:
    """The keys of the rows of a shard, of type KEY; a row without what is compared has none."""
    from xxhash import xxh3_128_digest

    digests = bytearray()
    for row in rows:
        content = compared_content(row, config)
        digests += xxh3_128_digest(_bytes(content, config)) if content else bytes(16)
    return np.frombuffer(digests, dtype=">u8").astype("<u8").view(KEY)


def compared_content(row: Row, config: ExactDedup) -> Any:
    """What is compared of a row; falsy where there is nothing to compare."""
    if config.on == "field":
        value = (row.get("meta") or {}).get(config.field)
        return normal_url(value) if config.normalise_url and isinstance(value, str) else value
    shape = shape_of(row)
    if config.on == "row":
        return {name: value for name, value in row.items() if name not in UNCOMPARED}
    if config.on == "prompt":
        side = prompt_side(row)
        return side if side != "[]" else ""  # a chat that opens with an answer
    if shape == "chat":
        return [turn for turn in row["messages"] if turn["role"] == "assistant"]
    if shape == "preference":
        return [row["chosen"], row["rejected"]] if row["chosen"] or row["rejected"] else ""
    return row["text"] if shape == "text" else row["completion"]


def _bytes(content: Any, config: ExactDedup) -> bytes:
    if config.ignore_case_and_spaces:
        content = _plain(content)
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value

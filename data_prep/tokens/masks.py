"""Rendered rows as token ids and labels, by character offsets: masks never depend on which ids pad or end a sequence.

A token is supervised when its characters lie entirely in one supervised span. A token that straddles the start of a
span also holds prompt characters, so it carries no loss and is counted; a token of zero width belongs to the span it
stands in.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from data_prep.errors import DataError
from data_prep.tokens.template import Rendered
from data_prep.tokens.typed import disguised, disguised_backend

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token without loss (torch's cross entropy skips it)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as tokens, cut to the first `max_length`; labels equal the ids where supervised, else IGNORED."""

    input_ids: list[int]
    labels: list[int]
    offsets: list[tuple[int, int]]
    """The character span of each kept token; tokens of one multi-byte character share its span."""
    truncated_tokens: int
    truncated_supervised: int
    supervised: int
    """Supervised tokens that are left."""
    first_supervised: int | None
    """Place of the first supervised token before truncation; None when there is none."""
    straddling: int
    """Tokens with characters inside and outside a span, before truncation."""
    unsupervised_ends: int
    """Spans whose last character (the end-of-turn token) no supervised token covers, before truncation."""

    @property
    def tokens(self) -> int:
        """The row's length before truncation."""
        return len(self.input_ids) + self.truncated_tokens


def encode(tokenizer: "PreTrainedTokenizerBase", rendered: Rendered, max_length: int) -> Encoded:
    """Token ids and labels of one rendered row, truncated at the right to `max_length` tokens."""
    return encode_batch(tokenizer, [rendered], max_length)[0]


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompt: Rendered) -> list[int]:
    """The tokens of a prompt (`rendered_prompt`), the same as in training: typed control tokens are ordinary words."""
    return encode(tokenizer, prompt, sys.maxsize).input_ids


def encode_batch(tokenizer: "PreTrainedTokenizerBase", rendered: Sequence[Rendered], max_length: int) -> list[Encoded]:
    """`encode` for many rows at once, which is much faster; DataError for a tokenizer without character offsets."""
    if not tokenizer.is_fast:
        raise DataError(
            f"tokenizer {type(tokenizer).__name__}: has no character offsets, which loss masks are made from; "
            "use a fast tokenizer (one with a tokenizer.json)"
        )
    backend = _offset_backend(tokenizer, len(tokenizer))
    encodings = backend.encode_batch([row.text for row in rendered if not row.typed], add_special_tokens=False)
    encoded = iter(encodings)
    return [
        _labelled(row, found.ids, found.offsets, max_length, backend.normalizer is not None)
        for row in rendered
        for found in [_encode_typed(tokenizer, row) if row.typed else next(encoded)]
    ]


def _encode_typed(tokenizer: "PreTrainedTokenizerBase", row: Rendered) -> "Encoding":
    """The tokens of a text in which somebody typed control tokens: those are spelled out like any other word."""
    backend = _disguised_backend(tokenizer, str(tokenizer.chat_template), len(tokenizer))
    return backend.encode(disguised(tokenizer, row.text, row.typed), add_special_tokens=False)


@lru_cache(maxsize=4)
def _disguised_backend(tokenizer: "PreTrainedTokenizerBase", template: str, size: int) -> "Tokenizer":
    """`template` and `size` are part of the cache key."""
    return disguised_backend(tokenizer, _offset_backend(tokenizer, size))


@lru_cache(maxsize=4)
def _offset_backend(tokenizer: "PreTrainedTokenizerBase", size: int) -> "Tokenizer":
    """A copy of the tokenizer's backend whose offsets cover every character (`size` is part of the cache key).

    Byte-level post-processors, Llama 3's among them, trim whitespace off the offsets, which hides straddling tokens.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import ByteLevel

    backend = Tokenizer.from_str(cast(Tokenizer, tokenizer.backend_tokenizer).to_str())
    backend.post_processor = ByteLevel(trim_offsets=False)
    backend.no_truncation()
    backend.no_padding()
    return backend


def _labelled(
    rendered: Rendered, ids: list[int], offsets: list[tuple[int, int]], max_length: int, normalized: bool
) -> Encoded:
    _check_cover(rendered.text, offsets, normalized)
    marks, straddling, unsupervised_ends = _marks(offsets, rendered.supervised)
    labels = [token if mark else IGNORED for token, mark in zip(ids, marks, strict=True)]
    return Encoded(
        input_ids=ids[:max_length],
        labels=labels[:max_length],
        offsets=offsets[:max_length],
        truncated_tokens=max(0, len(ids) - max_length),
        truncated_supervised=sum(marks[max_length:]),
        supervised=sum(marks[:max_length]),
        first_supervised=marks.index(True) if any(marks) else None,
        straddling=straddling,
        unsupervised_ends=unsupervised_ends,
    )


def _marks(offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> tuple[list[bool], int, int]:
    """Whether each token is supervised, how many straddle a span's edge, how many spans end without supervision."""
    marks = [False] * len(offsets)
    straddling = unsupervised_ends = token = 0
    for start, end in spans:
        while token < len(offsets) and offsets[token][1] <= start and offsets[token][0] < start:
            token += 1
        ended = False
        while token < len(offsets) and offsets[token][0] < end:
            first, last = offsets[token]
            marks[token] = start <= first and last <= end
            straddling += not marks[token]
            ended = marks[token] and last == end
            token += 1
        unsupervised_ends += not ended
    return marks, straddling, unsupervised_ends


def _check_cover(text: str, offsets: list[tuple[int, int]], normalized: bool) -> None:
    """DataError unless tokens cover the text in order; only whitespace or what a normalizer merges may lie between."""
    covered = 0
    for first, last in [*offsets, (len(text), len(text))]:
        gap = text[covered:first]
        if (gap and not normalized and not gap.isspace()) or last < covered:
            raise DataError(
                f"the tokenizer's character offsets skip or repeat {text[covered : covered + 20]!r}, so no loss mask "
                "can be trusted; use another fast tokenizer"
            )
        covered = last

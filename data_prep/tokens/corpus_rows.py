"""Documents as the rows that an objective learns from: packed, masked, or with gaps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from data_prep.errors import DataError
from data_prep.tokens import packing
from data_prep.tokens.corpus_config import CorpusConfig
from data_prep.tokens.corruption import corrupt_spans, generator, mask_tokens
from data_prep.tokens.masks import IGNORED
from data_prep.tokens.packing import Piece
from data_prep.tokens.vocabulary.train import sentinel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(slots=True)
class TokenRow:
    """One row; `labels` where they are not the next tokens."""

    input_ids: list[int]
    documents: list[str]
    lengths: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @property
    def supervised(self) -> int:
        """Tokens with loss: in a packed row all but the first of each document."""
        if self.lengths:
            return len(self.input_ids) - len(self.lengths)
        return sum(label != IGNORED for label in self.labels)

    def shown(self) -> Iterator[tuple[list[int], bool]]:
        """Stretches of tokens, and whether they are learned, for a person to look at."""
        if self.lengths:
            start = 0
            for length in self.lengths:
                yield self.input_ids[start : start + 1], False
                yield self.input_ids[start + 1 : start + length], True
                start += length
        elif len(self.labels) == len(self.input_ids):  # masked: what is learned stands in its place
            for token, label in zip(self.input_ids, self.labels, strict=True):
                yield [token if label == IGNORED else label], label != IGNORED
        else:
            yield self.input_ids, False
            yield self.labels, True


class Maker(Protocol):
    """Makes the rows of one objective."""

    shortest: int
    """Fewest tokens of a document that can be learned from."""

    def rows(self, documents: Iterable[Piece]) -> Iterator[TokenRow]:
        """The rows of some documents."""
        ...


def maker_of(config: CorpusConfig, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Maker:
    """The maker of an objective; DataError names a special token that the tokenizer lacks."""
    makers = {"causal": PackedDocuments, "masked": MaskedPieces, "denoising": GappedPieces}
    return makers[config.objective](config, tokenizer, seed)


class PackedDocuments:
    """Documents between a beginning and an end token, packed."""

    def __init__(self, config: CorpusConfig, tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
        self._config, self._end = config, _token(tokenizer.eos_token_id, "an end token (eos)")
        start = self._end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self._start = [int(start)] if config.document_start else []  # pyright: ignore[reportArgumentType]
        self.shortest = 1

    def rows(self, documents: Iterable[Piece]) -> Iterator[TokenRow]:
        """Rows of at most `max_length` tokens."""
        pack = {"concatenate": packing.concatenate, "best_fit": packing.best_fit, "none": packing.apart}
        whole = ((name, [*self._start, *tokens, self._end]) for name, tokens in documents)
        for row in pack[self._config.packing](whole, self._config.max_length):
            yield TokenRow(row.input_ids, row.documents, row.lengths)


class MaskedPieces:
    """Pieces of documents between [CLS] and [SEP] where the tokenizer has them, with hidden tokens."""

    def __init__(self, config: CorpusConfig, tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
        self._config, self._seed = config, seed
        self._mask = _token(tokenizer.mask_token_id, "a mask token")
        self._around: tuple[list[int], list[int]] = ([], [])
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        if isinstance(first, int) and isinstance(last, int):
            self._around = ([first], [last])
        special = set(tokenizer.all_special_ids)
        self._ordinary = np.array([token for token in range(len(tokenizer)) if token not in special])
        self.shortest = 2

    def rows(self, documents: Iterable[Piece]) -> Iterator[TokenRow]:
        """Each piece so many times as `copies` says, every time with other tokens hidden."""
        config, (first, last) = self._config, self._around
        for number, (name, tokens) in enumerate(packing.split(documents, config.max_length - len(first + last))):
            for copy in range(config.copies):
                draw = generator(self._seed, name, number, copy)
                inputs, labels = mask_tokens(tokens, config.corruption, self._mask, self._ordinary, draw)
                unlabelled = [IGNORED] * len(first)
                yield TokenRow([*first, *inputs, *last], [name], labels=[*unlabelled, *labels, *unlabelled])


class GappedPieces:
    """Pieces of documents with gaps, and what stood in them."""

    def __init__(self, config: CorpusConfig, tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
        self._config, self._seed, self._end = config, seed, _token(tokenizer.eos_token_id, "an end token (eos)")
        known = tokenizer.get_vocab()
        self._sentinels = []
        while (token := sentinel(len(self._sentinels))) in known:
            self._sentinels.append(known[token])
        needed = round(config.max_length * config.corruption / config.mean_span) + 1
        if len(self._sentinels) < max(2, needed):
            raise DataError(
                f"tokenizer: has {len(self._sentinels)} tokens <extra_id_0> …, and rows of {config.max_length} tokens "
                f"have up to {needed - 1} gaps; set special.sentinels={needed} in the stage of kind tokenizer"
            )
        self.shortest = 2

    def rows(self, documents: Iterable[Piece]) -> Iterator[TokenRow]:
        """Each piece so many times as `copies` says, every time with other gaps."""
        config = self._config
        for number, (name, tokens) in enumerate(packing.split(documents, config.max_length - 1)):
            if len(tokens) < self.shortest:
                continue
            for copy in range(config.copies):
                draw = generator(self._seed, name, number, copy)
                inputs, labels = corrupt_spans(tokens, config.corruption, config.mean_span, self._sentinels, draw)
                yield TokenRow([*inputs, self._end], [name], labels=[*labels, self._end])


def _token(found: object, what: str) -> int:
    if not isinstance(found, int):
        raise DataError(f"tokenizer: has no {what.removeprefix('an ').removeprefix('a ')}; choose one that has {what}")
    return found

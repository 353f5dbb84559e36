"""A dataset folder as rows of tokens for pretraining, on disk, with an account of them.

Columns: `input_ids`, and for causal models `lengths` of the documents that share a row, for others `labels`; and the
ids of the `documents`. Memory stays flat, however large the corpus is.
"""

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row, iterate_rows, parts_of, shape_of, write_whole
from data_prep.tokens.arrow import save_dataset, write_arrow
from data_prep.tokens.corpus_config import CorpusConfig
from data_prep.tokens.corpus_rows import Maker, TokenRow, maker_of
from data_prep.tokens.packing import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED_SPLITS = ("train", "validation")
_BATCH = 256
_QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


def prepare_corpus(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    config: CorpusConfig,
    seed: int = 0,
    track: Track = silent,
) -> dict[str, float]:
    """Write out/train and out/validation (`datasets` folders) and out/audit.json; returns the totals.

    A split without rows is not written; equal input gives equal bytes. DataError names a row that is not text, a token
    that the tokenizer lacks, or says that there is nothing to train on.
    """
    out.mkdir(parents=True, exist_ok=True)
    maker = maker_of(config, tokenizer, seed)
    counts = {split: _prepare_split(folder, split, tokenizer, out, config, maker, track) for split in TRAINED_SPLITS}
    if not counts["train"].total["rows"]:
        raise DataError(f"{folder}: has no training rows; check the splits and the curation of the data sets in it")
    splits = {split: count.report() for split, count in counts.items() if count.total["rows"]}
    report = {"config": config.model_dump(mode="json"), "splits": splits}
    write_whole(out / "audit.json", (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode())
    names = ("rows", "tokens", "supervised_tokens", "documents", "too_short_documents")
    totals = {name: float(sum(count.total[name] for count in counts.values())) for name in names}
    return {**totals, **{f"{split}_rows": float(count.total["rows"]) for split, count in counts.items()}}


def _prepare_split(
    folder: Path,
    split: str,
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    config: CorpusConfig,
    maker: Maker,
    track: Track,
) -> "_Counts":
    counts = _Counts(tokenizer, config)
    rows = track(iterate_rows(folder, split), f"tokens ({split})")
    documents = counts.documents(tokenised(_texts(rows, config), tokenizer), maker.shortest)
    made = (counts.row(row) for row in maker.rows(documents))
    stream = write_arrow(out / f".{split}.arrow", _features(config), map(_columns(config), _batches(made)))
    if counts.total["rows"]:
        save_dataset(stream, out / split)
    else:
        stream.unlink()
    return counts


def _texts(rows: Iterable[Row], config: CorpusConfig) -> Iterator[tuple[str, str]]:
    """Id and text of every row; DataError for a row of another shape, unless all count as text."""
    for row in rows:
        shape = shape_of(row)
        if shape != "text" and config.rows == "text":
            raise DataError(
                f"row {row.get('id')}: is a {shape} row, and pretraining reads text; choose a text data set, or set "
                "stages.pretrain.rows=all to read prompts and answers as plain text"
            )
        parts = parts_of(row)
        if shape == "preference":
            parts.pop("rejected")  # what a person found worse is nothing to learn from
        yield str(row["id"]), "\n".join(part for part in parts.values() if part)


def tokenised(texts: Iterable[tuple[str, str]], tokenizer: "PreTrainedTokenizerBase") -> Iterator[Piece]:
    """The tokens of each text alone. What looks like a special token inside a text is spelled out like any other."""
    for batch in _batches(texts):
        found: Any = tokenizer([text for _, text in batch], add_special_tokens=False, split_special_tokens=True)
        yield from ((name, ids) for (name, _), ids in zip(batch, found["input_ids"], strict=True))


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, _BATCH)):
        yield batch


def _features(config: CorpusConfig) -> Any:
    from datasets import Features, List, Value

    beside = "lengths" if config.objective == "causal" else "labels"
    return Features(
        {"input_ids": List(Value("int32")), beside: List(Value("int32")), "documents": List(Value("string"))}
    )


def _columns(config: CorpusConfig) -> Any:
    def columns(rows: list[TokenRow]) -> dict[str, list[Any]]:
        beside = (
            {"lengths": [row.lengths for row in rows]}
            if config.objective == "causal"
            else {"labels": [row.labels for row in rows]}
        )
        ids = {"input_ids": [row.input_ids for row in rows], "documents": [row.documents for row in rows]}
        return {**ids, **beside}

    return columns


class _Counts:
    """What became of a split."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", config: CorpusConfig) -> None:
        self.total: Counter[str] = Counter()
        self._tokenizer, self._config = tokenizer, config
        self._lengths = array("q")
        self._preview: list[dict[str, Any]] = []

    def documents(self, pieces: Iterable[Piece], shortest: int) -> Iterator[Piece]:
        """The documents that are long enough to learn from."""
        for piece in pieces:
            self._lengths.append(len(piece[1]))
            long_enough = len(piece[1]) >= shortest
            self.total["documents" if long_enough else "too_short_documents"] += 1
            if long_enough:
                yield piece

    def row(self, row: TokenRow) -> TokenRow:
        """Count a row; the first ones are shown."""
        self.total["rows"] += 1
        self.total["tokens"] += len(row.input_ids)
        self.total["supervised_tokens"] += row.supervised
        if len(self._preview) < self._config.preview_rows:
            decode = self._tokenizer.decode
            pieces = [{"text": decode(ids), "supervised": marked} for ids, marked in row.shown()]
            self._preview.append({"id": row.documents[0], "pieces": pieces})
        return row

    def report(self) -> dict[str, Any]:
        """Everything about the split, ready for JSON."""
        import numpy as np

        found = np.quantile(np.asarray(self._lengths), list(_QUANTILES.values()), method="inverted_cdf")
        lengths = {name: int(value) for name, value in zip(_QUANTILES, found, strict=True)}
        return {**self.total, "lengths": lengths, "preview": self._preview}

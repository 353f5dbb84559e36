"""Any transformers sequence classifier: a folder or a Hub id, in float32, without code from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError

LENGTH_STEP = 64
"""Batches are padded to a multiple of so many tokens, and to whole batches.

Matrix products of another shape round otherwise, so that a text's score would depend on its neighbours.
"""


class TransformerClassifier:
    """The classes of texts. Loads on construction.

    Args:
        source: a folder that `save_pretrained` wrote, or a Hub id.
        revision: branch, tag or commit of a Hub id.
        batch_size: texts at once.
        max_tokens: tokens of a text, special ones included; fewer where the model was built for fewer.

    Raises:
        DataError: it cannot be loaded.
    """

    def __init__(self, source: str, revision: str | None, batch_size: int, max_tokens: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(source).expanduser()
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": folder.is_dir()}
        if not folder.is_dir():
            options["revision"] = revision
        where = str(folder) if folder.is_dir() else source
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(where, **options)
            self._model = AutoModelForSequenceClassification.from_pretrained(
                where, dtype=torch.float32, use_safetensors=True, **options
            ).eval()
        # Not found, offline, gated, damaged, no classifier: every layer below has its own class.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            advice = "give a folder of a sequence classifier with safetensors weights and a tokenizer, or its Hub id"
            raise DataError(f"{source}: cannot be loaded ({type(error).__name__}: {reason}); {advice}") from error
        config = self._model.config
        self.labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        self._activation = activation_of(config.problem_type, len(self.labels))
        self._batch_size = batch_size
        self._max_tokens = _longest(self._tokenizer, config, max_tokens)
        if self._tokenizer.pad_token_id is None:
            raise DataError(f"{source}: its tokenizer has no padding token; set one and save the tokenizer again")

    def scores(self, texts: Sequence[str]) -> list[list[float]]:
        """Per text one number for each label: a probability (of a regression the plain number), to 6 decimals.

        A text's numbers do not depend on the other texts.
        """
        clean = [text.encode(errors="replace").decode() for text in texts]
        encoded = self._tokenizer(clean, truncation=True, max_length=self._max_tokens)["input_ids"] if clean else []
        by_length: dict[int, list[int]] = {}
        for index, ids in enumerate(encoded):
            by_length.setdefault(self._padded_length(len(ids)), []).append(index)
        found: list[list[float]] = [[] for _ in texts]
        for length, members in sorted(by_length.items()):
            for begin in range(0, len(members), self._batch_size):
                batch = members[begin : begin + self._batch_size]
                for index, values in zip(batch, self._batch([encoded[index] for index in batch], length), strict=False):
                    found[index] = values
        return found

    def _padded_length(self, tokens: int) -> int:
        return max(min(-(-tokens // LENGTH_STEP) * LENGTH_STEP, self._max_tokens), 1)

    def _batch(self, rows: list[list[int]], length: int) -> list[list[float]]:
        import torch

        filled = rows + [rows[0]] * (self._batch_size - len(rows))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in filled])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in filled])
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask).logits.double()
        if self._activation == "sigmoid":
            logits = logits.sigmoid()
        elif self._activation == "softmax":
            logits = logits.softmax(dim=-1)
        return [[round(value, 6) for value in row] for row in logits[: len(rows)].tolist()]


def activation_of(problem_type: str | None, labels: int) -> str:
    """How logits become scores: what `problem_type` says; without it one label is a yes/no, several exclude another."""
    if problem_type == "regression":
        return "none"
    return "sigmoid" if problem_type == "multi_label_classification" or labels == 1 else "softmax"


def label_index(labels: Sequence[str], wanted: str | None, source: str, key: str) -> int:
    """The place of a label; the second of two, or the only one, when none is named. DataError lists the labels."""
    names = ", ".join(labels)
    if wanted is None:
        if len(labels) > 2:
            raise DataError(f"{key}: not set, and {source} has the labels {names}; choose one")
        return len(labels) - 1
    if wanted not in labels:
        raise DataError(f"{key}: {source} has no label '{wanted}'; it has {names}")
    return list(labels).index(wanted)


def _longest(tokenizer: Any, config: Any, asked: int) -> int:
    """Tokenizers without a length state a huge one; RoBERTa's positions begin after the padding id."""
    positions = getattr(config, "max_position_embeddings", None) or asked
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= (config.pad_token_id or 0) + 1
    return min(asked, tokenizer.model_max_length, positions)

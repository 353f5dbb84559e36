"""Rows of tokens as batches. Documents that share a row are kept apart by positions that restart at each.

The models of transformers read restarting positions as borders only without an attention mask and without a cache; the
cache is on in evaluation unless it is switched off, so that each batch switches it off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.errors import StageFailed

Batch = dict[str, Any]
IGNORED = -100


def collator(objective: str, packed: bool, tokenizer: Any, model: Any) -> Callable[[Sequence[dict[str, Any]]], Batch]:
    """From rows to a batch, for an objective."""
    pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
    if objective == "causal":
        return lambda rows: packed_batch(rows, pad) if packed else alone_batch(rows, pad)
    if objective == "masked":
        return lambda rows: labelled_batch(rows, pad)

    def denoising(rows: Sequence[dict[str, Any]]) -> Batch:
        batch = labelled_batch(rows, pad)
        return {**batch, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"])}

    return denoising


def packed_batch(rows: Sequence[dict[str, Any]], pad: int) -> Batch:
    """Rows of several documents, with labels of their own or learned whole. Padding is one more document, without
    loss, so that no mask is needed."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), IGNORED)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens = torch.as_tensor(row["input_ids"], dtype=torch.long)
        spare = longest - len(tokens)
        ids[place, : len(tokens)] = tokens
        positions[place] = torch.cat([torch.arange(length) for length in [*row["lengths"], spare]])
        labels[place, : len(tokens)] = torch.as_tensor(row.get("labels", row["input_ids"]), dtype=torch.long)
    return {
        "input_ids": ids,
        "position_ids": positions,
        "labels": labels.masked_fill(positions == 0, IGNORED),
        "use_cache": False,
    }


def alone_batch(rows: Sequence[dict[str, Any]], pad: int) -> Batch:
    """A document per row, padded on the right."""
    tokens = [torch.as_tensor(row["input_ids"], dtype=torch.long) for row in rows]
    labels = _padded(tokens, IGNORED)
    labels[:, 0] = IGNORED
    return {"input_ids": _padded(tokens, pad), "attention_mask": _mask(tokens), "labels": labels, "use_cache": False}


def labelled_batch(rows: Sequence[dict[str, Any]], pad: int) -> Batch:
    """Rows with labels of their own, as long as the input or not."""
    tokens = [torch.as_tensor(row["input_ids"], dtype=torch.long) for row in rows]
    labels = [torch.as_tensor(row["labels"], dtype=torch.long) for row in rows]
    return {"input_ids": _padded(tokens, pad), "attention_mask": _mask(tokens), "labels": _padded(labels, IGNORED)}


def leak(model: Any, rows: Any, tried: int = 64) -> float:
    """Largest difference of a packed document's logits from those that it gets alone, on the first row that is shared.

    0 where no row is shared. Weights and random state stay as they are.
    """
    shared = next((row for row in (rows[n] for n in range(min(tried, len(rows)))) if len(row["lengths"]) > 1), None)
    if shared is None:
        return 0.0
    was_training = model.training
    model.eval()
    start, length = shared["lengths"][0], shared["lengths"][1]
    with torch.no_grad():
        batch = {name: _on(model, value) for name, value in packed_batch([shared], 0).items() if name != "labels"}
        together = model(**batch).logits[0, start : start + length]
        alone = model(input_ids=batch["input_ids"][:, start : start + length], use_cache=False).logits[0]
    model.train(was_training)
    return float((together.float() - alone.float()).abs().max())


def refuse_leak(model: Any, rows: Any, what: str) -> None:
    """StageFailed when a packed row's parts see each other.

    Rounding is allowed: in 16 bits it is some hundredths of a logit, and a leak is tenths or more.
    """
    allowed = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.2
    if (difference := leak(model, rows)) > allowed:
        raise StageFailed(
            f"packed {what} see each other in this model (its logits differ by {difference:.2g}); set packing=none"
        )


def _on(model: Any, value: Any) -> Any:
    return value.to(model.device) if isinstance(value, Tensor) else value


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def _mask(rows: list[Tensor]) -> Tensor:
    return _padded([torch.ones_like(row) for row in rows], 0)

"""The one way from prompts to answers: which loop runs, what happens when memory runs out, how likely an answer is."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from eval.decoding.batches import answer_in_batches
from eval.decoding.choose import Request, Row, chooser
from eval.decoding.config import BeamDecoding, ContrastiveDecoding, DecodingConfig
from eval.decoding.slots import answer_in_slots, fits_slots


def answers(
    model: Any, requests: Sequence[Request], decoding: DecodingConfig, stops: frozenset[int], pad: int, size: int
) -> Iterator[Row]:
    """Answer the requests, `size` at a time; rows as they are finished.

    Where memory runs out, the size is halved, and what was not finished is answered again. DataError names the row
    whose logits are NaN.
    """
    pending = {(request.id, request.number): request for request in requests}
    while pending:
        size = min(size, len(pending))
        try:
            for row in _answered(model, list(pending.values()), decoding, stops, pad, size):
                del pending[row.request.id, row.request.number]
                yield row
        except RuntimeError as error:
            if size == 1 or not _is_out_of_memory(error):
                raise
            size = (size + 1) // 2
        if pending and torch.cuda.is_available():
            torch.cuda.empty_cache()  # not in the except branch, where the error still holds the tensors


@torch.inference_mode()
def log_probabilities(model: Any, row: Row) -> list[float]:
    """What the model's own distribution (temperature 1, nothing cut) gave to each token of an answer, as logarithms."""
    ids = torch.tensor([[*row.request.prompt, *row.tokens]], device=model.device)
    logits = model(ids[:, :-1], use_cache=False).logits[0, -len(row.tokens) :].float()
    return logits.log_softmax(-1).gather(1, ids[0, -len(row.tokens) :, None])[:, 0].tolist()


def _answered(
    model: Any, requests: Sequence[Request], decoding: DecodingConfig, stops: frozenset[int], pad: int, size: int
) -> Iterator[Row]:
    choose = chooser(decoding)
    if isinstance(decoding, BeamDecoding | ContrastiveDecoding) or not fits_slots(model):
        return answer_in_batches(model, requests, decoding, choose, stops, pad, size)
    return answer_in_slots(model, requests, choose, stops, pad, size)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""Log-likelihoods of continuations under any Hugging Face causal model, choices of one context read together.

Shapes: B rows of a batch, T tokens of the longest, S scored positions of the batch, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from eval.choice.rows import PackedRow, rows_of
from eval.measures.log_likelihood import Window, most_positions

_PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_PROBE_TOLERANCE_HALF = 0.1


class Score(NamedTuple):
    """Log-likelihood in nats of a continuation, and whether each of its tokens is the likeliest."""

    log_likelihood: float
    greedy: bool


def score_windows(
    model: Any, groups: Sequence[Sequence[Window]], batch_size: int, branching: bool | None = None
) -> list[list[Score]]:
    """Scores of the windows of some items, in the order given; windows of an item share what they can.

    `branching` None asks `can_branch`. NaN logits give NaN: the caller knows which item to name.
    """
    branching = can_branch(model) if branching is None else branching
    rows = []
    for number, windows in enumerate(groups):
        longest = max(len(window.inputs) for window in windows)
        rows += [(number, row) for row in rows_of(windows, branching, batch_size * longest)]
    rows.sort(key=lambda pair: -len(pair[1].ids))
    scores: list[list[Score]] = [[Score(0.0, False)] * len(windows) for windows in groups]
    for batch in _batches(model, rows, groups, batch_size):
        for (number, row), found in zip(batch, _scored(model, [row for _, row in batch]), strict=True):
            for part, score in zip(row.scored, found, strict=True):
                scores[number][part.window] = score
    return scores


def can_branch(model: Any) -> bool:
    """Whether rows with branches give this model's numbers: full attention with position ids and a mask of our own.

    What the configuration says is checked by a short row scored both ways; a model that fails reads each choice alone.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    suitable = (
        type(model).__module__.startswith("transformers.")
        and {"position_ids", "attention_mask"} <= {*inspect.signature(model.forward).parameters}
        and getattr(model.config, "_attn_implementation", None) in ("sdpa", "eager")
        and (layers is None or {*layers} == {"full_attention"})
        and (layers is not None or getattr(config, "sliding_window", None) is None)
    )
    return suitable and _probe_agrees(model, config.vocab_size)


def _probe_agrees(model: Any, vocabulary: int) -> bool:
    tokens = [(7919 * number + 11) % vocabulary for number in range(13)]
    shared, windows = tokens[:5], []
    for rest in (tokens[5:8], tokens[8:9], tokens[9:13]):
        window = shared + rest
        windows.append(Window(window[:-1], rest))
    try:
        together, alone = (score_windows(model, [windows], 8, branching)[0] for branching in (True, False))
    except (RuntimeError, ValueError, TypeError):
        return False
    tolerance = _PROBE_TOLERANCE.get(model.dtype, _PROBE_TOLERANCE_HALF)
    pairs = zip(together, alone, strict=True)
    return all(abs(one.log_likelihood - two.log_likelihood) <= tolerance for one, two in pairs)


def _batches(
    model: Any, rows: Sequence[tuple[int, PackedRow]], groups: Sequence[Sequence[Window]], batch_size: int
) -> list[list[tuple[int, PackedRow]]]:
    """Rows, the longest first, in batches that take no more memory than `batch_size` of their longest windows."""
    most = most_positions(model)
    batches: list[list[tuple[int, PackedRow]]] = []
    room = scored = 0
    for number, row in rows:
        places = len({place for part in row.scored for place in part.positions})
        length = len(batches[-1][0][1].ids) if batches else 0
        if not batches or length > room or scored + places > most:
            batches.append([])
            length, scored = len(row.ids), 0
            room = batch_size * max(len(window.inputs) for window in groups[number])
        batches[-1].append((number, row))
        room, scored = room - length, scored + places
    return batches


def _scored(model: Any, rows: Sequence[PackedRow]) -> list[list[Score]]:
    """Scores of each row's windows; a batch for which memory runs out is halved until it fits."""
    try:
        return _scored_at_once(model, rows)
    except RuntimeError as error:
        if len(rows) == 1 or not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(rows) + 1) // 2
    return _scored(model, rows[:half]) + _scored(model, rows[half:])


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@torch.inference_mode()
def _scored_at_once(model: Any, rows: Sequence[PackedRow]) -> list[list[Score]]:
    """Padded on the right: no position sees what follows it."""
    length = max(len(row.ids) for row in rows)
    ids_BT = torch.zeros((len(rows), length), dtype=torch.long)
    keep_BT = torch.zeros((len(rows), length), dtype=torch.bool)
    places = [sorted({place for part in row.scored for place in part.positions}) for row in rows]
    for index, row in enumerate(rows):
        ids_BT[index, : len(row.ids)] = torch.tensor(row.ids)
        keep_BT[index, places[index]] = True
    extra = _branch_inputs(model, rows, length) if any(row.branched for row in rows) else {}
    logits_SV = _kept_logits(model, ids_BT.to(model.device), keep_BT.to(model.device), extra)
    scores, start = [], 0
    for row, kept in zip(rows, places, strict=True):
        scores.append(_row_scores(row, kept, logits_SV[start : start + len(kept)]))
        start += len(kept)
    return scores


def _branch_inputs(model: Any, rows: Sequence[PackedRow], length: int) -> dict[str, torch.Tensor]:
    """Position ids (B, T) and an additive mask (B, 1, T, T): earlier tokens of the own branch and shared ones."""
    positions_BT = torch.zeros((len(rows), length), dtype=torch.long)
    branches_BT = torch.full((len(rows), length), -1, dtype=torch.long)
    for index, row in enumerate(rows):
        positions_BT[index, : len(row.ids)] = torch.tensor(row.positions)
        branches_BT[index, : len(row.ids)] = torch.tensor(row.branches)
    branches_BT = branches_BT.to(model.device)
    own_BTT = branches_BT[:, :, None] == branches_BT[:, None, :]
    seen_BTT = torch.ones((length, length), dtype=torch.bool, device=model.device).tril() & (
        own_BTT | (branches_BT[:, None, :] == 0)
    )
    mask_BTT = torch.zeros(seen_BTT.shape, dtype=model.dtype, device=model.device)
    mask_BTT.masked_fill_(~seen_BTT, torch.finfo(model.dtype).min)
    return {"position_ids": positions_BT.to(model.device), "attention_mask": mask_BTT[:, None]}


def _kept_logits(model: Any, ids_BT: torch.Tensor, keep_BT: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
    """Logits (S, V) at the kept positions, row by row: before the output head where the model can select them."""
    inside = type(model).__module__.startswith("transformers.")
    if inside and "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(input_ids=ids_BT, use_cache=False, logits_to_keep=keep_BT, **extra).logits
        return logits.reshape(-1, logits.shape[-1])
    return model(input_ids=ids_BT, use_cache=False, **extra).logits[keep_BT]


def _row_scores(row: PackedRow, kept: list[int], logits_SV: torch.Tensor) -> list[Score]:
    """log_softmax in float32, sums in float64."""
    index = {place: number for number, place in enumerate(kept)}
    log_probabilities_SV = torch.log_softmax(logits_SV.float(), dim=-1)
    likeliest = log_probabilities_SV.argmax(dim=-1).tolist()
    scores = []
    for _, positions, targets in row.scored:
        at = [index[place] for place in positions]
        total = log_probabilities_SV[at, targets].double().sum()
        scores.append(Score(float(total), [likeliest[place] for place in at] == targets))
    return scores

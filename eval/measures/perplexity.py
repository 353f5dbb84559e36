"""Perplexity and bits per byte, equal to lm-evaluation-harness 0.4.13 (`loglikelihood_rolling`, `loglikelihood`).

Every row gives its sums, `{"id", "nll", "tokens", "words", "bytes"}` with the negative log-likelihood in nats, and the
measures are functions of the sums: that is what pairing and resampling need. Of answers `context_sha256` tells the
prompt.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.loading import context_length, number_format
from eval.measures.log_likelihood import Window, window_nlls
from eval.measures.sums import text_sizes
from eval.samples import Sample

RowSums = dict[str, Any]


class Tokenised(NamedTuple):
    """A text with the token windows that score each of its tokens once."""

    source: Sample
    windows: list[Window]

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return sum(len(window.inputs) for window in self.windows)


def rolling(
    model: Any,
    tokenizer: Any,
    texts: Sequence[tuple[str, str]],
    batch_size: int = 8,
    stride: int | None = None,
    track: Track = silent,
) -> list[RowSums]:
    """Sums of whole texts, given as (id, text), in that order."""
    pieces = [rolling_windows(model, tokenizer, Sample(name, None, text), stride) for name, text in texts]
    return _in_order(score(model, pieces, batch_size, track), [name for name, _ in texts])


def conditional(
    model: Any, tokenizer: Any, rows: Sequence[tuple[str, str, str]], batch_size: int = 8, track: Track = silent
) -> list[RowSums]:
    """Sums of the answers of (id, rendered prompt, answer), in that order; the end-of-turn token is not scored.

    Raises DataError for an empty answer and for a row longer than the model's context.
    """
    pieces = [answer_windows(model, tokenizer, Sample(*row)) for row in rows]
    return _in_order(score(model, pieces, batch_size, track), [row[0] for row in rows])


def score(model: Any, pieces: Sequence[Tokenised], batch_size: int, track: Track = silent) -> Iterator[RowSums]:
    """Row sums of `batches_by_length`, batch by batch."""
    batches = batches_by_length(pieces, batch_size)
    for batch in track(batches, "perplexity", total=len(batches)):
        yield from score_batch(model, batch, batch_size)


def batches_by_length(pieces: Sequence[Tokenised], batch_size: int) -> list[list[Tokenised]]:
    """Pieces of similar length together, the longest first; equal lengths in the order of their ids."""
    ordered = sorted(pieces, key=lambda piece: (-piece.length, piece.source.id))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def score_batch(model: Any, batch: Sequence[Tokenised], batch_size: int) -> list[RowSums]:
    """Row sums of some texts; DataError names the row whose logits are not finite."""
    nlls = iter(window_nlls(model, [window for piece in batch for window in piece.windows], batch_size))
    rows = []
    for piece in batch:
        nll = math.fsum(next(nlls) for _ in piece.windows)
        if not math.isfinite(nll):
            raise DataError(
                f"row {piece.source.id}: its log-likelihood is {nll}, the model's logits are not finite; "
                "check the weights, or evaluate in float32"
            )
        text = piece.source.text
        tokens = sum(len(window.targets) for window in piece.windows)
        row = {"id": piece.source.id, "nll": nll, "tokens": tokens, **text_sizes(text)}
        if piece.source.prompt is not None:
            row["context_sha256"] = hashlib.sha256(piece.source.prompt.encode()).hexdigest()
        rows.append(row)
    return rows


def rolling_windows(model: Any, tokenizer: Any, source: Sample, stride: int | None = None) -> Tokenised:
    """Windows over a whole text, which gets one prefix token (BOS, else EOS) where it does not begin with it.

    The first window scores a full context, each later one the next `stride` tokens with all left context that fits.
    """
    limit = context_length(model, tokenizer)
    if stride is not None and stride > limit:
        raise DataError(f"stride {stride}: longer than the model's context; allowed are 1 to {limit}")
    prefix = prefix_token(tokenizer)
    tokens = tokenizer.encode(source.text, add_special_tokens=False)
    if tokens[:1] == [prefix]:
        tokens = tokens[1:]
    return Tokenised(source, list(_windows([prefix, *tokens], limit, stride or limit)))


def _windows(tokens: list[int], limit: int, stride: int) -> Iterator[Window]:
    """Windows that score each token but the first once; a window reads at most `limit` tokens."""
    scored, total = 0, len(tokens) - 1
    while scored < total:
        count = min(stride if scored else limit, total - scored)
        scored += count
        yield Window(tokens[max(0, scored - limit) : scored], tokens[scored + 1 - count : scored + 1])


def answer_windows(model: Any, tokenizer: Any, source: Sample) -> Tokenised:
    """The one window that scores an answer after its rendered prompt, which brings its own BOS.

    Prompt and answer are tokenised together, as the model meets them. Scored are the tokens from the first one that
    the prompt alone would not have: one that spans the border counts, white space that ends the prompt does not.
    """
    if source.prompt_ids is None:
        prompt = tokenizer.encode(source.prompt or "", add_special_tokens=False)
        tokens = tokenizer.encode((source.prompt or "") + source.text, add_special_tokens=False)
    else:  # the template's own control tokens end such a prompt, so no token spans the border
        prompt = source.prompt_ids
        tokens = prompt + tokenizer.encode(source.text, add_special_tokens=False)
    shared = next((i for i, pair in enumerate(zip(prompt, tokens, strict=False)) if pair[0] != pair[1]), len(prompt))
    count = len(tokens) - shared
    if count <= 0:
        raise DataError(f"row {source.id}: the answer is empty, so there is nothing to score; drop the row")
    if count == len(tokens):
        tokens = [prefix_token(tokenizer), *tokens]
    limit = context_length(model, tokenizer)
    if len(tokens) - 1 > limit:
        raise DataError(
            f"row {source.id}: prompt and answer are {len(tokens)} tokens, the model reads {limit}; "
            "shorten the rows (data.<name>.lead.max_tokens) or drop them"
        )
    return Tokenised(source, [Window(tokens[:-1], tokens[-count:])])


def prefix_token(tokenizer: Any) -> int:
    """The token before a text, never scored: BOS, else EOS."""
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise DataError("tokenizer: has neither a BOS nor an EOS token to put before a text; set one of them")
    return int(token)


def rolling_policy(model: Any, tokenizer: Any, stride: int | None = None) -> str:
    """What `rolling` did, in one line for the report."""
    limit = context_length(model, tokenizer)
    prefix = tokenizer.convert_ids_to_tokens(prefix_token(tokenizer))
    return (
        f"whole text, prefix {prefix} not scored, max length {limit}, stride {stride or limit}, {number_format(model)}"
    )


def conditional_policy(model: Any, tokenizer: Any) -> str:
    """What `conditional` did, in one line for the report."""
    limit = context_length(model, tokenizer)
    return f"answer text given the prompt, end of turn not scored, max length {limit}, {number_format(model)}"


def _in_order(rows: Iterable[RowSums], names: Sequence[str]) -> list[RowSums]:
    by_id = {row["id"]: row for row in rows}
    return [by_id[name] for name in names]

"""Context and continuation as token windows, split as lm-evaluation-harness 0.4.13 splits them (`_encode_pair`)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from data_prep.errors import DataError
from eval.choice.config import Bos, ScoringConfig
from eval.loading import context_length, number_format
from eval.measures.log_likelihood import Window
from eval.measures.perplexity import prefix_token


class Encoded(NamedTuple):
    """The windows of one item, one for each continuation, and how many tokens of context were cut from each."""

    id: str
    windows: list[Window]
    cut: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longest window."""
        return max(len(window.inputs) for window in self.windows)


def encode_all(
    model: Any, tokenizer: Any, asked: Sequence[tuple[str, str, Sequence[str]]], config: ScoringConfig
) -> list[Encoded]:
    """Items given as (id, context, continuations), in that order.

    White space that ends a context is scored with the continuation; a continuation is the tokens of both together
    behind as many as the context alone has. Where nothing is left so, because the border melts into one token, it is
    the tokens from the first that the context alone would not have. An empty context is one BOS (else EOS) token.

    Raises DataError for an empty continuation, and for one beyond the model's context (see `too_long`).
    """
    limit, first = context_length(model, tokenizer), _bos(tokenizer, config.bos)
    contexts, flat = [], []
    for _, context, continuations in asked:
        kept = context.rstrip()
        contexts.append(kept)
        flat += [(kept + context[len(kept) :] + continuation) for continuation in continuations]
    context_ids, whole_ids = _tokens(tokenizer, contexts), iter(_tokens(tokenizer, flat))
    encoded = []
    for (name, _, continuations), ids in zip(asked, context_ids, strict=True):
        pairs = [_split(tokenizer, name, ids, next(whole_ids), first) for _ in continuations]
        windows, cut = zip(*(_window(name, *pair, limit, config) for pair in pairs), strict=True)
        encoded.append(Encoded(name, list(windows), list(cut)))
    return encoded


def scoring_policy(model: Any, tokenizer: Any, config: ScoringConfig) -> str:
    """What was scored, in one line for the report."""
    bos = tokenizer.convert_ids_to_tokens(_bos(tokenizer, config.bos) or []) or ["none"]
    empty = tokenizer.convert_ids_to_tokens(prefix_token(tokenizer))
    long = "refused" if config.too_long == "refuse" else "cut from the left and counted"
    return (
        f"log-likelihood of the continuation given the context, BOS before a context: {bos[0]} (policy {config.bos}), "
        f"before an empty one: {empty}, never scored; max length {context_length(model, tokenizer)}, longer {long}; "
        f"float32 log-softmax, float64 sums, {number_format(model)}"
    )


def _bos(tokenizer: Any, policy: Bos) -> list[int]:
    """The token before a context that does not bring it, as a list of one or none."""
    token = tokenizer.bos_token_id
    if policy == "never" or (policy == "tokenizer" and (token is None or tokenizer("a")["input_ids"][:1] != [token])):
        return []
    if token is None:
        raise DataError("bos=always: the tokenizer has no BOS token; use bos=tokenizer or bos=never")
    return [int(token)]


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """An empty text has no tokens; the others go through the tokenizer together."""
    filled = [text for text in texts if text]
    ids = iter(tokenizer(filled, add_special_tokens=False)["input_ids"] if filled else [])
    return [next(ids) if text else [] for text in texts]


def _split(
    tokenizer: Any, name: str, context: list[int], whole: list[int], first: list[int]
) -> tuple[list[int], list[int]]:
    """Context (never empty) and continuation (never empty) of one pair."""
    continuation = whole[len(context) :]
    if context and not continuation:
        shared = next((n for n, pair in enumerate(zip(context, whole, strict=False)) if pair[0] != pair[1]), len(whole))
        context, continuation = whole[:shared], whole[shared:]
    if not continuation:
        raise DataError(f"item {name}: a continuation is empty, so there is nothing to score; drop the item")
    if not context:
        prefix = prefix_token(tokenizer)
        if continuation[0] == prefix and len(continuation) > 1:
            return continuation[:1], continuation[1:]
        return [prefix], continuation
    return (context if context[:1] == first else first + context), continuation


def _window(
    name: str, context: list[int], continuation: list[int], limit: int, config: ScoringConfig
) -> tuple[Window, int]:
    tokens = context + continuation
    cut = max(0, len(tokens) - 1 - limit)
    if len(continuation) > limit:
        raise DataError(
            f"item {name}: a continuation of {len(continuation)} tokens, the model reads {limit}; drop the item"
        )
    if cut and config.too_long == "refuse":
        raise DataError(
            f"item {name}: context and continuation are {len(tokens)} tokens, the model reads {limit}; "
            "lower shots, drop the item, or set too_long=cut to cut the context from the left"
        )
    return Window(tokens[cut:-1], continuation), cut

"""Whether a server serves the weights under test: what both answer greedily to the same prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.errors import DataError
from eval.config import GenerationConfig
from eval.decoding.choose import Request
from eval.decoding.config import GreedyDecoding
from eval.decoding.engine import answers
from eval.server.answers import ModelOnServer

_NEW_TOKENS = 16


def probe(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    texts: Mapping[str, str],
    config: GenerationConfig,
    stops: frozenset[int],
) -> dict[str, Any]:
    """What is known of the served weights, for the policies: name, address, the server's own words, the agreement.

    The server and `model` answer the first `probes` prompts greedily. Each pair of answers agrees up to its first
    different token, which counts against it: agreement estimates the share of tokens that both would choose after the
    same text. It tells another model, not one that differs a little. DataError below `least_agreement`.
    """
    assert config.server is not None
    plain = config.model_copy(update={"decoding": GreedyDecoding(), "log_probabilities": False})
    served = ModelOnServer(model, tokenizer, plain, stops)
    note = {"name": served.model.name, "base_url": served.model.base_url, "listed": served.listed()}
    asked = [one._replace(new_tokens=min(_NEW_TOKENS, one.new_tokens)) for one in requests[: config.server.probes]]
    if not asked:
        return note | {"agreement": None}
    theirs = {one.row.request.id: one.text for one in served.answers(asked, texts)}
    agreed = parted = 0
    for row in answers(model, asked, plain.decoding, stops, tokenizer.pad_token_id, config.batch_size):
        tokens = row.tokens[:-1] if row.tokens[-1] in stops else row.tokens
        same = _agreed(tokenizer, tokens, theirs[row.request.id])
        agreed, parted = agreed + same, parted + (same < len(tokens))
    share = agreed / (agreed + parted) if agreed + parted else 1.0
    if share < config.server.least_agreement:
        raise DataError(
            f"{served.who}: answers {len(asked)} prompts unlike the weights under test: {agreed} tokens agree, and "
            f"{parted} answers part ({share:.0%}, at least {config.server.least_agreement:.0%}), so it serves another "
            "model under that name; correct generation.server.served, or lower least_agreement for one that quantises"
        )
    return note | {"agreement": round(share, 4), "probes": len(asked)}


def _agreed(tokenizer: Any, tokens: Sequence[int], text: str) -> int:
    """How many of the first tokens the text begins with; a character of several tokens counts once it is whole."""
    for count in range(1, len(tokens) + 1):
        begin = tokenizer.decode(tokens[:count], skip_special_tokens=True)
        if not text.startswith(begin.rstrip("\ufffd")):
            return count - 1
    return len(tokens)

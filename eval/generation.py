"""Answers of a model to held-out prompts, made in one recorded way for every model that is compared."""

import contextlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.tokens.config import Template
from data_prep.tokens.template import end_of_turn
from eval.config import GenerationConfig
from eval.decoding.choose import Request, Row
from eval.decoding.config import BeamDecoding, ContrastiveDecoding, DecodingConfig, SampleDecoding
from eval.decoding.engine import answers, log_probabilities
from eval.loading import context_length, model_key, number_format
from eval.predictions import Prediction, key_of, predict_as_finished
from eval.samples import Sample


def generate(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    config: GenerationConfig,
    template: Template,
    out_file: Path,
    track: Track = silent,
) -> list[Prediction]:
    """Answer every sample; rows {"id", "prompt", "output", "reference", "finish_reason", "tokens"} in the order given.

    `tokens` counts the answer without its stop token. Finished answers are kept in `out_file`, from which a killed
    call goes on. Raises DataError, before anything is computed, for a prompt that leaves no room for an answer; and
    what `eval.server.answers` says of a server.
    """
    by_id = {sample.id: sample for sample in samples}
    asked = [request_of(model, tokenizer, sample, config.max_new_tokens) for sample in samples]
    # The longest first, so that memory runs out at once or never; equal lengths in the order of their ids.
    asked.sort(key=lambda request: (-len(request.prompt), request.id))
    stops = frozenset(stop_tokens(model, tokenizer, template))

    def work(left: Set[str]) -> Iterator[Prediction]:
        requests = [request for request in asked if request.id in left]
        if config.engine == "server":
            from eval.server.answers import ModelOnServer

            texts = {sample.id: sample.prompt or "" for sample in samples}
            for row, text, reason in ModelOnServer(model, tokenizer, config, stops).answers(requests, texts):
                yield _prediction(by_id[row.request.id], row, text, reason, stops)
            return
        for row in run_engine(model, tokenizer, requests, config, stops):
            text, reason, _ = text_of(tokenizer, row, stops)
            yield _prediction(by_id[row.request.id], row, text, reason, stops)

    key = generation_key(model, tokenizer, samples, config, template)
    return predict_as_finished(out_file, key, list(by_id), work, track, "generating")


def run_engine(
    model: Any, tokenizer: Any, requests: Sequence[Request], config: GenerationConfig, stops: frozenset[int]
) -> Iterator[Row]:
    """Answers of the engine that was asked for, as they are finished, with their log-probabilities where wanted."""
    if config.engine == "vllm":
        from eval.decoding.vllm import answer_by_vllm

        yield from answer_by_vllm(model, tokenizer, requests, config.decoding, stops, config.log_probabilities)
        return
    for row in answers(model, requests, config.decoding, stops, tokenizer.pad_token_id, config.batch_size):
        if config.log_probabilities:
            row.log_probabilities = log_probabilities(model, row)
        yield row


def generation_key(
    model: Any, tokenizer: Any, samples: Sequence[Sample], config: GenerationConfig, template: Template
) -> str:
    """A hash of all that the answers depend on: weights, prompts, settings, decoding and stop tokens."""
    stops = stop_tokens(model, tokenizer, template)
    return key_of(model_key(model, tokenizer), [list(sample) for sample in samples], config.identity(), stops)


def served_by(
    model: Any, tokenizer: Any, samples: Sequence[Sample], config: GenerationConfig, template: Template
) -> dict[str, Any]:
    """What is known of the weights behind a server (`eval.server.probe`); DataError where they are others."""
    from eval.server.probe import probe

    texts = {sample.id: sample.prompt or "" for sample in samples}
    asked = [request_of(model, tokenizer, sample, config.max_new_tokens) for sample in samples]
    return probe(model, tokenizer, asked, texts, config, frozenset(stop_tokens(model, tokenizer, template)))


def generation_policy(model: Any, config: GenerationConfig) -> str:
    """How the answers were made, in one line for the report."""
    stops = "stops at end of text or turn, prompt never cut"
    by = {"transformers": number_format(model), "vllm": f"{number_format(model)}, by vLLM", "server": "by a server"}
    how = decoding_policy(config.decoding)
    return f"{how}, at most {config.max_new_tokens} new tokens, {stops}, {by[config.engine]}"


def decoding_policy(decoding: DecodingConfig) -> str:
    """How the next token is chosen, in a few words."""
    match decoding:
        case SampleDecoding():
            names = ("temperature", "top_k", "top_p", "min_p", "seed")
            told = [f"{name} {value}" for name in names if (value := getattr(decoding, name)) is not None]
            return f"sampled with {', '.join(told)}"
        case BeamDecoding():
            early = "first finished" if decoding.early_stopping else "best possible"
            return f"beam search of {decoding.beams}, length penalty {decoding.length_penalty}, {early}"
        case ContrastiveDecoding():
            return f"contrastive search of {decoding.candidates} candidates, alpha {decoding.alpha}"
        case _:
            return "greedy"


def stop_tokens(model: Any, tokenizer: Any, template: Template = "auto") -> list[int]:
    """Every token that ends an answer: the tokenizer's end, the template's end of turn, and the model's own list."""
    own = model.generation_config.eos_token_id
    stops = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    # A template without a recognisable end of turn still has the two others.
    with contextlib.suppress(DataError):
        stops.add(tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer, template)))
    return sorted(stop for stop in stops if stop is not None)


def request_of(model: Any, tokenizer: Any, sample: Sample, new_tokens: int, number: int = 0) -> Request:
    """The sample's prompt as tokens; DataError where there is none, or no room for so many new tokens."""
    if not sample.prompt:
        raise DataError(f"row {sample.id}: has no prompt to answer; use prompt/completion or chat rows")
    ids = sample.prompt_ids or tokenizer.encode(sample.prompt, add_special_tokens=False)
    limit = context_length(model, tokenizer)
    if len(ids) + new_tokens > limit:
        raise DataError(
            f"row {sample.id}: a prompt of {len(ids)} tokens and {new_tokens} new ones exceed the model's "
            f"context of {limit}; shorten the rows (data.<name>.lead.max_tokens) or lower max_new_tokens"
        )
    return Request(sample.id, ids, new_tokens, number)


def text_of(tokenizer: Any, row: Row, stops: frozenset[int]) -> tuple[str, str, int]:
    """The answer's text, why it ended (`stop` or `length`), and its tokens without the stop token."""
    ended = bool(row.tokens) and row.tokens[-1] in stops
    answer = row.tokens[:-1] if ended else row.tokens
    return tokenizer.decode(answer, skip_special_tokens=True), "stop" if ended else "length", len(answer)


def _prediction(sample: Sample, row: Row, text: str, reason: str, stops: frozenset[int]) -> Prediction:
    found: Prediction = {
        "id": sample.id,
        "prompt": sample.prompt,
        "output": text,
        "reference": sample.text,
        "finish_reason": reason,
        "tokens": len(row.tokens) - (row.tokens[-1:] != [] and row.tokens[-1] in stops),
    }
    if row.log_probabilities is not None:
        found |= {"token_ids": row.tokens, "log_probabilities": row.log_probabilities}
    return found

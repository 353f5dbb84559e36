"""Solve problems step by step, once or several times, and vote on the number that the answers state."""

from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row as DataRow
from data_prep.tokens.template import template_kind
from eval.decoding.choose import Request, Row
from eval.decoding.engine import answers
from eval.generation import decoding_policy, request_of, stop_tokens, text_of
from eval.loading import context_length, model_key, number_format
from eval.measures.answers import NUMBER_POLICY, extract_number, self_consistency
from eval.predictions import Prediction, key_of, predict_as_finished
from eval.reasoning.budget import think_then_answer
from eval.reasoning.config import ReasoningConfig
from eval.reasoning.prompts import problem_rows
from eval.samples import Sample, samples_of

_CHUNK = 4
"""Batches of problems that think together: what a killed run loses at most."""


def score_reasoning(
    model: Any,
    tokenizer: Any,
    rows: Sequence[DataRow],
    config: ReasoningConfig,
    pool: Sequence[DataRow],
    partial: Path,
    track: Track = silent,
) -> list[Prediction]:
    """Rows {"id", "prompt", "reference", "outputs", "answers", "answer", "finish_reasons", "tokens"} of the problems.

    `answers` are the numbers that the outputs state, `answer` the one that most state; None where none does. Raises
    DataError, before anything is computed, for a reference without a number and a prompt without room.
    """
    kind = template_kind(tokenizer, config.template)
    samples = samples_of(tokenizer, problem_rows(rows, config, pool, kind), config.template)
    _refuse(model, tokenizer, samples, config)
    by_id = {sample.id: sample for sample in samples}

    def work(left: Set[str]) -> Iterator[Prediction]:
        asked = [sample for sample in samples if sample.id in left]
        size = max(1, _CHUNK * config.batch_size // config.samples) if config.budget else len(asked)
        for start in range(0, len(asked), size):
            yield from _solved(model, tokenizer, asked[start : start + size], config)

    key = key_of(model_key(model, tokenizer), [list(sample) for sample in samples], config.model_dump(mode="json"))
    return predict_as_finished(partial, key, list(by_id), work, track, "reasoning")


def reasoning_policy(model: Any, tokenizer: Any, config: ReasoningConfig) -> dict[str, Any]:
    """How the problems were solved, for the report; equal for models that are compared."""
    told: dict[str, Any] = {
        "decoding": f"{decoding_policy(config.decoding)}, at most {config.max_new_tokens} new tokens",
        "instruction": config.instruction,
        "shots": config.shots,
        "answer": NUMBER_POLICY,
        "template": template_kind(tokenizer, config.template),
        "numbers": number_format(model),
    }
    if config.samples > 1:
        told["vote"] = f"the number that most of {config.samples} answers state, the first of equals"
    if (budget := config.budget) is not None:
        told["budget"] = (
            f"{budget.least} to {budget.most} thinking tokens; an earlier end becomes {budget.wait!r}, "
            f"{budget.end!r} opens the answer"
        )
    return told


def _solved(model: Any, tokenizer: Any, samples: Sequence[Sample], config: ReasoningConfig) -> Iterator[Prediction]:
    """The problems whose every answer is there, as they come."""
    stops = frozenset(stop_tokens(model, tokenizer, config.template))
    by_id = {sample.id: sample for sample in samples}
    requests = [
        request_of(model, tokenizer, sample, config.max_new_tokens, number)
        for sample in samples
        for number in range(config.samples)
    ]
    requests.sort(key=lambda request: (-len(request.prompt), request.id, request.number))

    def answering(asked: Sequence[Request], ends: frozenset[int]) -> Iterable[Row]:
        return answers(model, asked, config.decoding, ends, tokenizer.pad_token_id, config.batch_size)

    thinking = think_then_answer(tokenizer, requests, config.budget, stops, answering) if config.budget else None
    found: dict[str, dict[int, Row]] = {}
    for row in thinking or answering(requests, stops):
        known = found.setdefault(row.request.id, {})
        known[row.request.number] = row
        if len(known) == config.samples:
            yield _prediction(tokenizer, by_id[row.request.id], [known[n] for n in sorted(known)], stops)


def _prediction(tokenizer: Any, sample: Sample, rows: Sequence[Row], stops: frozenset[int]) -> Prediction:
    texts = [text_of(tokenizer, row, stops) for row in rows]
    numbers = [extract_number(text) for text, _, _ in texts]
    voted = self_consistency(numbers)
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "reference": sample.text,
        "outputs": [text for text, _, _ in texts],
        "answers": [None if number is None else str(number) for number in numbers],
        "answer": None if voted is None else str(voted),
        "finish_reasons": [reason for _, reason, _ in texts],
        "tokens": [tokens for _, _, tokens in texts],
    }


def _refuse(model: Any, tokenizer: Any, samples: Sequence[Sample], config: ReasoningConfig) -> None:
    budget, thinking = config.budget, 0
    if budget is not None:
        thinking = budget.most + len(tokenizer.encode(budget.end, add_special_tokens=False))
    limit = context_length(model, tokenizer)
    for sample in samples:
        if extract_number(sample.text) is None:
            raise DataError(f"row {sample.id}: its reference states no number; drop the row, or measure it otherwise")
        prompt = len(request_of(model, tokenizer, sample, config.max_new_tokens).prompt)
        if prompt + thinking + config.max_new_tokens > limit:
            raise DataError(
                f"row {sample.id}: a prompt of {prompt} tokens, {thinking} of thinking and {config.max_new_tokens} of "
                f"the answer exceed the model's context of {limit}; lower budget.most, max_new_tokens or shots"
            )

"""Greedy answers of a model, batched, in one recorded way for every model that is compared."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.tokens.config import Template
from data_prep.tokens.template import end_of_turn
from eval.config import GenerationConfig
from eval.loading import context_length, model_key, number_format
from eval.predictions import Prediction, key_of, predict_resumably
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

    `tokens` counts the answer without its stop token. Finished batches are kept in `out_file`, from which a killed
    call goes on. Raises DataError, before anything is computed, for a prompt that leaves no room for an answer.
    """
    prompts = {sample.id: _prompt_ids(model, tokenizer, sample, config) for sample in samples}
    # The longest first, so that memory runs out at once or never; equal lengths in the order of their ids.
    ordered = sorted(samples, key=lambda sample: (-len(prompts[sample.id]), sample.id))
    size = config.batch_size
    batches = [[(s.id, s) for s in ordered[start : start + size]] for start in range(0, len(ordered), size)]
    stops = stop_tokens(model, tokenizer, template)

    def answer(batch: list[Sample]) -> list[Prediction]:
        ids = _generated(model, [prompts[sample.id] for sample in batch], _settings(tokenizer, config, stops))
        return [_row(tokenizer, *pair, stops) for pair in zip(batch, ids, strict=True)]

    rows = predict_resumably(
        out_file, generation_key(model, tokenizer, samples, config, template), batches, answer, track, "generating"
    )
    by_id = {row["id"]: row for row in rows}
    return [by_id[sample.id] for sample in samples]


def generation_key(
    model: Any, tokenizer: Any, samples: Sequence[Sample], config: GenerationConfig, template: Template
) -> str:
    """A hash of all that the answers depend on: weights, prompts, settings and stop tokens."""
    stops = stop_tokens(model, tokenizer, template)
    return key_of(model_key(model, tokenizer), [list(sample) for sample in samples], config.model_dump(), stops)


def generation_policy(model: Any, config: GenerationConfig) -> str:
    """How the answers were made, in one line for the report."""
    stops = "stops at end of text or turn, prompt never cut"
    return f"greedy, at most {config.max_new_tokens} new tokens, {stops}, {number_format(model)}"


def stop_tokens(model: Any, tokenizer: Any, template: Template = "auto") -> list[int]:
    """Every token that ends an answer: the tokenizer's end, the template's end of turn, and the model's own list."""
    own = model.generation_config.eos_token_id
    stops = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    # A template without a recognisable end of turn still has the two others.
    with contextlib.suppress(DataError):
        stops.add(tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer, template)))
    return sorted(stop for stop in stops if stop is not None)


def _prompt_ids(model: Any, tokenizer: Any, sample: Sample, config: GenerationConfig) -> list[int]:
    if not sample.prompt:
        raise DataError(f"row {sample.id}: has no prompt to answer; use prompt/completion or chat rows")
    ids = tokenizer.encode(sample.prompt, add_special_tokens=False)
    limit = context_length(model, tokenizer)
    if len(ids) + config.max_new_tokens > limit:
        raise DataError(
            f"row {sample.id}: a prompt of {len(ids)} tokens and {config.max_new_tokens} new ones exceed the model's "
            f"context of {limit}; shorten the rows (data.<name>.lead.max_tokens) or lower max_new_tokens"
        )
    return ids


def _settings(tokenizer: Any, config: GenerationConfig, stops: list[int]) -> Any:
    from transformers import GenerationConfig as Settings

    return Settings(
        do_sample=False,
        num_beams=1,
        max_new_tokens=config.max_new_tokens,
        eos_token_id=stops or None,
        pad_token_id=tokenizer.pad_token_id,
    )


def _generated(model: Any, prompts: Sequence[list[int]], settings: Any) -> list[list[int]]:
    """New token ids of each prompt; a batch for which memory runs out is halved until it fits."""
    try:
        return _generated_at_once(model, prompts, settings)
    except RuntimeError as error:
        if len(prompts) == 1 or not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(prompts) + 1) // 2
    return _generated(model, prompts[:half], settings) + _generated(model, prompts[half:], settings)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@torch.inference_mode()
def _generated_at_once(model: Any, prompts: Sequence[list[int]], settings: Any) -> list[list[int]]:
    length = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), length), settings.pad_token_id, dtype=torch.long)
    mask_BT = torch.zeros((len(prompts), length), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, length - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, length - len(prompt) :] = 1
    with _only_these(model, settings):
        output = model.generate(
            ids_BT.to(model.device), attention_mask=mask_BT.to(model.device), generation_config=settings
        )
    return output[:, length:].tolist()


@contextlib.contextmanager
def _only_these(model: Any, settings: Any) -> Iterator[None]:
    """`generate` fills what `settings` leaves open from the model's own defaults (temperature, repetition penalty,
    forced tokens ...); for the time of the call there are none."""
    own = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = own


def _row(tokenizer: Any, sample: Sample, ids: list[int], stops: list[int]) -> Prediction:
    end = next((index for index, token in enumerate(ids) if token in stops), None)
    answer = ids[:end]
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "output": tokenizer.decode(answer, skip_special_tokens=True),
        "reference": sample.text,
        "finish_reason": "length" if end is None else "stop",
        "tokens": len(answer),
    }

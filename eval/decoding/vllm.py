"""Answers by vLLM (Kwon et al. 2023), for GPUs: the same requests, the same stops, the same rows."""

import gc
import importlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from data_prep.errors import DataError
from eval.decoding.choose import Request, Row, seed_of
from eval.decoding.config import DecodingConfig, SampleDecoding
from eval.loading import number_format


def answer_by_vllm(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    decoding: DecodingConfig,
    stops: frozenset[int],
    log_probabilities: bool,
) -> Iterator[Row]:
    """Answer all requests at once; DataError where vLLM is not installed or the adapter has virtual tokens.

    vLLM reads the weights from a folder: what is evaluated here, adapters merged, is saved for it and leaves the GPU
    meanwhile. Log-probabilities are those of the model's own distribution, as everywhere.
    """
    try:
        vllm: Any = importlib.import_module("vllm")
    except ImportError as error:
        raise DataError(
            "generation.engine=vllm: vllm is not installed; pip install 'provetune[gpu]', or engine=transformers"
        ) from error
    if hasattr(model, "active_peft_config"):
        raise DataError("generation.engine=vllm: knows no virtual tokens (prefix, prompt); take engine=transformers")
    place = model.device
    model.to("cpu")
    try:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            engine: Any = vllm.LLM(model=folder, dtype=number_format(model), logprobs_mode="raw_logprobs")
            asked = [_parameters(vllm, each, decoding, stops, log_probabilities) for each in requests]
            prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
            found = engine.generate(prompts, asked, use_tqdm=False)
        del engine
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        model.to(place)
    yield from (_row(request, each.outputs[0]) for request, each in zip(requests, found, strict=True))


def _parameters(
    vllm: Any, request: Request, decoding: DecodingConfig, stops: frozenset[int], log_probabilities: bool
) -> Any:
    sampled: dict[str, Any] = {"temperature": 0.0}
    if isinstance(decoding, SampleDecoding):
        sampled = {
            "temperature": decoding.temperature,
            "top_k": decoding.top_k or 0,
            "top_p": decoding.top_p or 1.0,
            "min_p": decoding.min_p or 0.0,
            "seed": seed_of(decoding.seed, request) % 2**31,
        }
    return vllm.SamplingParams(
        max_tokens=request.new_tokens,
        stop_token_ids=sorted(stops),
        ignore_eos=True,  # the stops are given, whatever the model's own files say
        logprobs=0 if log_probabilities else None,
        **sampled,
    )


def _row(request: Request, found: Any) -> Row:
    tokens = list(found.token_ids)
    if found.logprobs is None:
        return Row(request, tokens)
    own = [entry[token].logprob for token, entry in zip(tokens, found.logprobs, strict=True)]
    return Row(request, tokens, log_probabilities=own)

"""Run one model over one held-out data set and keep what it predicts: the entry point that needs the model."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import read_rows
from data_prep.tokens.config import Template
from eval.config import GenerationConfig, PerplexityConfig
from eval.generation import generate, generation_key, generation_policy, served_by, stop_tokens
from eval.loading import model_key
from eval.measures import perplexity as likelihood
from eval.measures.text import bleu_signature, chrf_signature, rouge_policy
from eval.predictions import (
    Measure,
    Prediction,
    is_finished,
    key_of,
    note_policy,
    predict_resumably,
    predictions_path,
    read_predictions,
    write_predictions,
)
from eval.samples import Sample, choose, samples_of, template_sha256
from eval.shares import ShareKept, forget, taken


def predict(
    model: Any,
    tokenizer: Any,
    folder: Path,
    dataset: str,
    out: Path,
    perplexity: PerplexityConfig | None,
    generation: GenerationConfig | None,
    template: Template = "auto",
    track: Track = silent,
) -> dict[str, float]:
    """Score and answer the test rows of a dataset folder; `eval.predictions` says what `out` then holds.

    Text rows are scored whole and never answered; other rows are scored on their last answer, and answered. A second
    call with the same model, rows and settings reads what is there, and a killed one goes on. Returns for each measure
    `<measure>_rows`, `<measure>_tokens` (scored or generated), `<measure>_seconds` and `<measure>_tokens_per_second`;
    seconds are this call's, and there is no speed where nothing had to be computed. Raises DataError without test rows.
    """
    rows = read_rows(folder, "test")
    if not rows:
        raise DataError(f"{dataset}: no test rows in {folder}; raise data.{dataset}.splits.test or give it role: eval")
    numbers: dict[str, float] = {}
    if perplexity:
        samples = samples_of(tokenizer, choose(rows, perplexity.max_rows), template)
        numbers |= _score(model, tokenizer, samples, dataset, out, perplexity, template, track)
    if generation:
        samples = samples_of(tokenizer, choose(rows, generation.max_rows), template)
        if samples[0].prompt is not None:
            numbers |= _answer(model, tokenizer, samples, dataset, out, generation, template, track)
    return numbers


def _score(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    dataset: str,
    out: Path,
    config: PerplexityConfig,
    template: Template,
    track: Track,
) -> dict[str, float]:
    whole = samples[0].prompt is None
    if whole:
        pieces = [likelihood.rolling_windows(model, tokenizer, sample, config.stride) for sample in samples]
        policy = likelihood.rolling_policy(model, tokenizer, config.stride)
    else:
        pieces = [likelihood.answer_windows(model, tokenizer, sample) for sample in samples]
        policy = likelihood.conditional_policy(model, tokenizer)
    key = key_of(model_key(model, tokenizer), policy, config.model_dump(), [list(sample) for sample in samples])

    def compute(partial: Path) -> list[Prediction]:
        batches = [[(p.source.id, p) for p in b] for b in likelihood.batches_by_length(pieces, config.batch_size)]
        rows = predict_resumably(
            partial,
            key,
            batches,
            lambda batch: likelihood.score_batch(model, batch, config.batch_size),
            track,
            "scoring",
        )
        by_id = {row["id"]: row for row in rows}
        return [by_id[sample.id] for sample in samples]

    notes = {"perplexity": policy} | ({} if whole else {"template_sha256": template_sha256(tokenizer, template)})
    return finish(out, dataset, "perplexity", key, compute, notes)


def _answer(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    dataset: str,
    out: Path,
    config: GenerationConfig,
    template: Template,
    track: Track,
) -> dict[str, float]:
    notes: dict[str, Any] = {
        "generation": generation_policy(model, config),
        "template_sha256": template_sha256(tokenizer, template),
        "stop": tokenizer.convert_ids_to_tokens(stop_tokens(model, tokenizer, template)),
        "rouge": rouge_policy(),
        "bleu": bleu_signature([sample.text for sample in samples]),
        "chrf": chrf_signature(),
    }

    if config.engine != "transformers" and taken():  # these engines are asked by who merges, with their own batches
        return {}

    def compute(partial: Path) -> list[Prediction]:
        if config.engine == "server":
            notes["served"] = served_by(model, tokenizer, samples, config, template)
        return generate(model, tokenizer, samples, config, template, partial, track)

    key = generation_key(model, tokenizer, samples, config, template)
    return finish(out, dataset, "generation", key, compute, notes)


def finish(
    out: Path,
    dataset: str,
    measure: Measure,
    key: str,
    compute: Callable[[Path], list[Prediction]],
    notes: dict[str, Any],
) -> dict[str, float]:
    """Compute a predictions file, or take the finished one; partial files go last, so that nothing is lost.

    Returns the numbers of one measure that `predict` tells of; of a share (`eval.shares`) only the seconds.
    """
    start, path = time.perf_counter(), predictions_path(out, dataset, measure)
    cached = is_finished(out, dataset, measure, key)
    if cached:
        rows = read_predictions(out, dataset, measure)
    else:
        partial = path.with_name(f"{path.name}.partial")
        try:
            rows = compute(partial)
        except ShareKept:
            return {f"{measure}_seconds": time.perf_counter() - start}
        write_predictions(out, dataset, measure, rows)
        note_policy(out, dataset, notes, measure, key)
        forget(partial)
    seconds, tokens = time.perf_counter() - start, sum(_tokens(row) for row in rows)
    numbers = {f"{measure}_rows": len(rows), f"{measure}_tokens": tokens, f"{measure}_seconds": seconds}
    return numbers if cached else {**numbers, f"{measure}_tokens_per_second": tokens / seconds}


def _tokens(row: Prediction) -> int:
    """Tokens of a row: one number, or one for each choice."""
    return sum(row["tokens"]) if isinstance(row["tokens"], list) else row["tokens"]

"""Perplexity against lm-evaluation-harness, and generation against a plain loop, on the same rows, interleaved.

    HF_HUB_OFFLINE=1 python -m tests.benchmarks.evaluation MODEL_FOLDER ROWS.jsonl

The file holds rows of text, or of prompt and completion. Perplexity: `eval.measures.perplexity.rolling` and
`HFLM.loglikelihood_rolling` of the same texts, the harness as it comes (batch size 1) and at `--harness-batch-size`.
Generation: `eval.generation.generate` and a loop of `model.generate` over the prompts in the order of the file,
rendered by the chat template where there is one, in batches of the same size, padded on the left, as the model's
documentation shows it; how much faster ours is depends on how the answers' lengths differ, so they are told. A ratio is
the median over rounds of theirs by ours: `ratio` of wall seconds, `processor_ratio` of processor seconds, which a busy
machine disturbs less.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eval.config import GenerationConfig
from eval.generation import generate, stop_tokens
from eval.loading import load_model
from eval.measures.perplexity import rolling
from eval.samples import Sample, samples_of


def perplexity(
    model: Any, tokenizer: Any, texts: list[str], size: int, harness_size: int, rounds: int
) -> dict[str, Any]:
    """Ratios, tokens per second, and the largest difference of a text's log-likelihood in nats."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=harness_size,
        add_bos_token=False,
        device=model.device.type,
    )
    rows = [(str(number), text) for number, text in enumerate(texts)]

    def ours() -> list[float]:
        return [-row["nll"] for row in rolling(model, tokenizer, rows, size)]

    def theirs() -> list[float]:
        requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, (_, text) in enumerate(rows)]
        return harness.loglikelihood_rolling(requests, disable_tqdm=True)

    found, (mine, other) = compared(ours, theirs, rounds)
    tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    found["largest_difference"] = max(abs(one - two) for one, two in zip(mine, other, strict=True))
    return {**found, "tokens_per_second": tokens / found.pop("seconds")}


def generation(model: Any, tokenizer: Any, prompts: list[str], size: int, new: int, rounds: int) -> dict[str, Any]:
    """Ratios, and the share of equal answers (a near tie may fall the other way in another batch)."""
    samples = [Sample(str(number), prompt, "-") for number, prompt in enumerate(prompts)]
    settings, stops = GenerationConfig(batch_size=size, max_new_tokens=new), stop_tokens(model, tokenizer)

    def ours() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            rows = generate(model, tokenizer, samples, settings, "plain", Path(folder) / "partial")
        return [row["output"] for row in rows]

    @torch.inference_mode()
    def theirs() -> list[str]:
        answers = []
        for start in range(0, len(prompts), size):
            batch = tokenizer(
                prompts[start : start + size], return_tensors="pt", padding=True, add_special_tokens=False
            ).to(model.device)
            out = model.generate(
                **batch, do_sample=False, max_new_tokens=new, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id
            )
            answers += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    found, (mine, other) = compared(ours, theirs, rounds)
    del found["seconds"]
    lengths = sorted(len(ids) for ids in tokenizer(mine, add_special_tokens=False)["input_ids"])
    told = {"median_tokens": lengths[len(lengths) // 2], "longest_tokens": lengths[-1], "load": os.getloadavg()[0]}
    return {**found, **told, "equal_answers": sum(a == b for a, b in zip(mine, other, strict=True)) / len(mine)}


def compared(
    ours: Callable[[], list[Any]], theirs: Callable[[], list[Any]], rounds: int
) -> tuple[dict[str, Any], tuple[list[Any], list[Any]]]:
    """A B A B; the first round warms up and is thrown away."""
    spent = []
    for number in range(rounds + 1):
        mine, *here = timed(ours)
        other, *there = timed(theirs)
        if number:
            spent.append((*here, *there))
    wall, processor, wall_there, processor_there = zip(*spent, strict=True)
    ratios = {
        "ratio": statistics.median(b / a for a, b in zip(wall, wall_there, strict=True)),
        "processor_ratio": statistics.median(b / a for a, b in zip(processor, processor_there, strict=True)),
        "seconds": statistics.median(wall),
    }
    return ratios, (mine, other)


def timed(work: Callable[[], list[Any]]) -> tuple[list[Any], float, float]:
    """What the work gives, wall seconds, processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print one line of JSON for each measurement."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.evaluation", description=__doc__)
    parser.add_argument("model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("file", type=Path, help="rows of text, or of prompt and completion")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--harness-batch-size", type=int, default=1, help="lm-eval's own; 1 is how it comes")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("perplexity", "generation"), default=None)
    asked = parser.parse_args()
    lines = asked.file.read_text(encoding="utf-8").splitlines()[: asked.rows]
    rows, (model, tokenizer) = [json.loads(line) for line in lines], load_model(asked.model)
    prompts = [row.get("prompt", row.get("text")) for row in rows]
    if asked.only != "generation":
        sizes = asked.batch_size, asked.harness_batch_size
        print(json.dumps({"perplexity": perplexity(model, tokenizer, prompts, *sizes, asked.rounds)}), flush=True)
    if asked.only != "perplexity":
        if "prompt" in rows[0]:
            named = [{"id": str(number), **row} for number, row in enumerate(rows)]
            prompts = [sample.prompt for sample in samples_of(tokenizer, named)]
        print(json.dumps({"generation": generation(
            model, tokenizer, prompts, asked.batch_size, asked.new_tokens, asked.rounds
        )}))  # fmt: skip


if __name__ == "__main__":
    main()

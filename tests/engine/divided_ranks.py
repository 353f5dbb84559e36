"""Work of one of several ranks (test_tensor_parallel.py): trainings whose matrices are divided among them.

    python -m torch.distributed.run --nproc-per-node 2 -m tests.engine.divided_ranks WORK.json

The file lists trainings: the name of the kind, its inputs, the folder it leaves, changed settings, and for one that is
to be continued, the folder of the first and the checkpoint that is kept of it.
"""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from data_prep.progress import silent
from tests.engine.tiny_training import KINDS, LLAMA, SIZES, Kind, recipe, train

OWN = Kind("pretrain", KINDS["pretrain causal"].settings, "pretrain", architecture=SIZES)
TIED = Kind("sft", KINDS["sft full"].settings, "sft", architecture={**LLAMA, "tie_word_embeddings": True})
ALL = KINDS | {"own": OWN, "tied": TIED}


def keep(first: Path, step: int, out: Path) -> None:
    """What a kill right after a checkpoint leaves of a training."""
    shutil.copytree(first / "checkpoints", out / "checkpoints")
    for checkpoint in (out / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.rsplit("-", 1)[1]) > step:
            shutil.rmtree(checkpoint)


def do(work: dict[str, Any]) -> None:
    """One training."""
    from torch import distributed

    out = Path(work["out"])
    if "first" in work and os.environ.get("RANK", "0") == "0":
        keep(Path(work["first"]), work["step"], out)
    if distributed.is_initialized():
        distributed.barrier()
    inputs = {name: Path(path) for name, path in work["inputs"].items()}
    if work.get("node") == "reference":
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        kind = ALL[work["kind"]]
        importlib.import_module(f"pipeline.stages.{kind.stage}.reference").run(recipe(kind), inputs, out, silent)
        return
    metrics = train(ALL[work["kind"]], inputs, out, **work["changes"])
    if os.environ.get("RANK", "0") == "0":
        (out / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        do(each)

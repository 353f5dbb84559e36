"""Log-probabilities under the reference, computed once for all rows and kept as an artifact of their own."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.progress import Track
from data_prep.tokens.arrow import save_dataset, write_arrow
from pipeline.training.lengths import by_length
from pipeline.training.parallel import groups

ROWS_AT_ONCE = 8


def save_reference(
    policy: Any, rows: Any, columns: Sequence[str], out: Path, split: str, track: Track
) -> dict[str, float]:
    """Write `out/<split>`: one float32 column per log-probability, in the order of the rows.

    Each rank computes its share, rank 0 puts the shares together. Rows of similar length share a batch.
    """
    accelerator = policy.accelerator
    dealt = groups().dealt(by_length(rows)[0].tolist(), ROWS_AT_ONCE, accelerator.process_index)
    order = [place for places, counts in dealt if counts for place in places]
    values = np.zeros((len(order), len(columns)), dtype=np.float32)
    policy.model.eval()
    started = time.perf_counter()
    shown = track(dealt, f"reference ({split})", total=len(dealt)) if accelerator.is_main_process else dealt
    done = 0
    with torch.no_grad():
        for places, counts in shown:
            found = policy.reference_of([rows[place] for place in places])
            if not counts:
                continue
            values[done : done + len(places)] = torch.stack(found, dim=1).float().cpu().numpy()
            done += len(places)
    _put_together(accelerator, out, split, columns, order, values, len(rows))
    seconds = time.perf_counter() - started
    return {f"{split}_rows": float(len(rows)), f"{split}_rows_per_second": len(rows) / seconds}


def _put_together(
    accelerator: Any, out: Path, split: str, columns: Sequence[str], places: Any, values: np.ndarray, count: int
) -> None:
    """Each rank leaves its part in a file; rank 0 joins them and removes them."""
    from datasets import Features, Value

    parts = out / "checkpoints" / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    np.savez(parts / f"{accelerator.process_index}.npz", places=places, values=values)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        whole = np.full((count, len(columns)), np.nan, dtype=np.float32)
        for rank in range(accelerator.num_processes):
            with np.load(parts / f"{rank}.npz") as part:
                whole[part["places"]] = part["values"]
        features = Features({name: Value("float32") for name in columns})
        table = {name: whole[:, place].tolist() for place, name in enumerate(columns)}
        save_dataset(write_arrow(out / f".{split}.arrow", features, [table]), out / split)
        shutil.rmtree(parts)
    accelerator.wait_for_everyone()

"""The self-test: plant, run the user's own steps on the planted rows, and score."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.self_test.plant import SAMPLE, plant
from data_prep.curation.self_test.score import Line, score
from data_prep.rows import Row

TESTED = ("near_dedup", "pii", "decontamination")


def self_test(
    rows: Sequence[Row],
    steps: CurationSteps,
    eval_rows: Mapping[str, Sequence[Row]],
    seed: int,
    run: Callable[[list[Row]], Mapping[str, Line]],
    size: int = SAMPLE,
) -> dict[str, Any]:
    """Measure what the steps find of cases with a known answer in the user's own rows.

    Nothing that was planted is in the report, and `rows` stay as they are: what `run` writes is the caller's business
    (a temporary folder).

    Args:
        rows: the user's training rows.
        steps: the configuration; only steps that are on are tested.
        eval_rows: name → rows of the evaluations that the decontamination looks for.
        seed: decides what is planted where.
        run: curates rows with these steps and gives the ledger's line of each, by id.
        size: rows that are planted into, for each step.

    Returns:
        `{"seed", "rows", STEP: {"planted", "found", "look_alikes", "wrongly_found", "recall", "spared", "precision",
        "kinds": {KIND: the same}} or {"not_tested": why}}`; shares are `{"value", "low", "high"}`, the bounds
        of Wilson's 95 % interval.
    """
    on = [name for name in TESTED if getattr(steps, name) is not None]
    if not on:
        return {"not_tested": f"not tested: none of the steps {', '.join(TESTED)} is on"}
    planted = plant(rows, steps, eval_rows, seed, size)
    ledger = run(planted.rows) if planted.rows else {}
    return {"seed": seed, "rows": len(planted.rows), **score(planted, ledger, steps)}

"""Twenty losses of every kind of training, as they were when somebody last looked at them.

Oracles say that a loss is right; this says that nothing changed it unnoticed: rows, masks, their order, the schedule,
the optimizer, the seeds. Where a change is meant, `UPDATE_GOLDEN=1 pytest tests/engine/test_golden_losses.py` records
the new losses, and the diff of `tests/golden/losses.json` shows a reviewer what moved, from which step on.
"""

import json
import os
from pathlib import Path

import pytest

from tests.engine.tiny_training import KINDS, first_weights, prepared, train

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
STEPS = 20
TOLERANCE = 2e-4
"""In nats, at every step: rounding differs between processors, and 20 steps of training carry it on. (Two instruction
sets of one machine differ by less than 1e-5; a batch in another order by more than 1e-2.)"""
QUANTISED = 5e-3
"""The same for weights of 4 bit, whose adapters are trained in bfloat16."""

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_those_on_record(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    inputs = prepared(kind, first_weights(tmp_path / "start", kind.architecture), tmp_path)
    train(kind, inputs, tmp_path / "out")
    lines = (tmp_path / "out" / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [round(json.loads(line)["loss"], 6) for line in lines]
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    assert len(losses) == STEPS
    assert losses == pytest.approx(golden[name], abs=QUANTISED if "qlora" in name else TOLERANCE)

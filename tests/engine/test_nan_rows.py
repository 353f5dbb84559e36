"""A step without a number names its rows and keeps the checkpoint before it, whatever is trained."""

import re
from pathlib import Path

import pytest

from pipeline.errors import StageFailed
from tests.engine.tiny_training import KINDS, first_weights, prepared, rows_of, train

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("name", ["pretrain causal", "pretrain masked", "sft full", "dpo", "kto", "orpo", "simpo"])
def test_the_rows_of_a_step_without_a_number_are_named(name: str, tmp_path: Path) -> None:
    """A learning rate that overflows after some steps; validation in between names nothing of its own."""
    kind = KINDS[name]
    inputs = prepared(kind, first_weights(tmp_path / "start", kind.architecture), tmp_path)
    wild = {"learning_rate": 1e30, "max_grad_norm": 1e30, "warmup_steps": 0, "schedule": "constant"}
    with pytest.raises(StageFailed, match=r"of step \d+ is (nan|inf); lower learning_rate.* its rows were ") as caught:
        train(kind, inputs, tmp_path / "out", batch_size=4, checkpoint_every=1, **wild)
    named = re.findall(r"t\d+", str(caught.value).partition("its rows were ")[2])
    assert set(named) <= {row["id"] for row in rows_of(kind)}
    assert len(named) >= 4 if "packed" in kind.settings else len(named) == 4
    step = int(re.findall(r"of step (\d+)", str(caught.value))[0])
    kept = [int(folder.name.split("-")[1]) for folder in (tmp_path / "out" / "checkpoints").glob("checkpoint-*")]
    assert max(kept, default=0) == step - 1

"""Fine-tuning and preferences on the from-scratch decoders; other shapes are refused with the reason."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from tests.engine.test_training import plain_losses
from tests.engine.tiny_training import BOTH, ENCODER, KINDS, SIZES, Kind, first_weights, prepared, train

pytestmark = pytest.mark.end_to_end

DECODER: dict[str, Any] = {**SIZES, "attention": "grouped_query", "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_weights(tmp_path_factory.mktemp("own"), DECODER)


def losses_of(name: str, weights: Path, folder: Path, **changes: object) -> tuple[list[float], dict[str, Path]]:
    inputs = prepared(KINDS[name], weights, folder)
    train(KINDS[name], inputs, folder / "out", max_steps=4, warmup_steps=0, **changes)
    lines = (folder / "out" / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines], inputs


@pytest.mark.parametrize("name", ["sft lora", "sft full"])
def test_the_first_loss_equals_log_probabilities_by_hand(decoder: Path, tmp_path: Path, name: str) -> None:
    """One batch of all rows, in TRL's fused output layer, against a float64 log-softmax row by row."""
    from datasets import load_from_disk

    from pipeline.training.models import load_weights

    losses, inputs = losses_of(name, decoder, tmp_path, batch_size=48)
    rows: Any = load_from_disk(str(inputs["rows"] / "train"))
    nats, tokens = plain_losses(load_weights(decoder, "float32", "sdpa", False).eval(), list(rows))
    assert losses[0] == pytest.approx(nats / tokens, abs=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo", "simpo"])
def test_preferences_are_learned(decoder: Path, tmp_path: Path, name: str) -> None:
    losses, _ = losses_of(name, decoder, tmp_path)
    known = {"dpo": math.log(2), "kto": 0.5}
    assert losses[0] == pytest.approx(known.get(name, losses[0]), abs=1e-6) and losses[-1] < losses[0]


@pytest.mark.parametrize("architecture", [ENCODER, BOTH], ids=["encoder", "encoder–decoder"])
@pytest.mark.parametrize("name", ["sft lora", "dpo", "kto"])
def test_other_shapes_are_refused(tmp_path: Path, architecture: dict[str, Any], name: str) -> None:
    kind, shape = KINDS[name], "encoder" if architecture is ENCODER else "encoder–decoder"
    weights = first_weights(tmp_path, architecture)
    expected = rf"stages.{kind.stage}: the model is an {shape}, and answers are learned by decoders .*kind pretrain"
    with pytest.raises(DataError, match=expected):
        prepared(Kind(kind.stage, kind.settings, kind.prepared_by), weights, tmp_path)

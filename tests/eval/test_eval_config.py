"""Ranges and docstrings of the evaluation's settings, and that they import in milliseconds."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from eval.config import GenerationConfig, PerplexityConfig, StatisticsConfig


@pytest.mark.parametrize(
    ("kind", "field", "wrong"),
    [
        (PerplexityConfig, "max_rows", 0),
        (PerplexityConfig, "batch_size", 0),
        (PerplexityConfig, "stride", 0),
        (GenerationConfig, "max_rows", 0),
        (GenerationConfig, "max_new_tokens", 0),
        (GenerationConfig, "batch_size", 0),
        (StatisticsConfig, "confidence", 1.0),
        (StatisticsConfig, "confidence", 0.5),
        (StatisticsConfig, "resamples", 99),
        (StatisticsConfig, "seed", -1),
        (StatisticsConfig, "sed", 1),
    ],
)
def test_values_out_of_range_are_refused(kind: Any, field: str, wrong: float) -> None:
    with pytest.raises(ValidationError, match=field):
        kind(**{field: wrong})


def test_every_field_is_documented() -> None:
    for kind in (PerplexityConfig, GenerationConfig, StatisticsConfig):
        assert all(field.description for field in kind.model_fields.values())


def test_the_config_imports_nothing_heavy() -> None:
    program = "import sys, eval.config; print({'torch', 'numpy', 'transformers', 'sacrebleu'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

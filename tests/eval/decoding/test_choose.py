"""Sampling: the distribution of transformers' warpers, drawn by numbers that belong to the row."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from eval.decoding.choose import Request, Row, _warper, chooser, drawn, seed_of
from eval.decoding.config import GreedyDecoding, SampleDecoding

SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.8},
    {"temperature": 0.5, "top_k": 12, "min_p": 0.05},
]


def transformers_distribution(logits: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """What `generate` would sample from, by the processors that it builds itself."""
    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=50)
    )
    asked = GenerationConfig(do_sample=True, **{"top_k": 0, "top_p": 1.0, **settings})
    processors = model._get_logits_processor(generation_config=asked, input_ids_seq_length=1, device="cpu")
    return processors(torch.zeros(len(logits), 1, dtype=torch.long), logits).softmax(-1)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_distribution_is_that_of_generate(settings: dict[str, Any]) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 3
    expected = transformers_distribution(logits, settings)
    assert torch.equal(_warper(SampleDecoding(**settings))(logits).softmax(-1), expected)
    numbers = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for row in range(4):
        scores = _warper(SampleDecoding(**settings))(logits[row : row + 1]).expand(len(numbers), -1)
        shares = np.bincount(drawn(scores, numbers).numpy(), minlength=50) / len(numbers)
        assert shares == pytest.approx(expected[row].numpy(), abs=1.1e-4)


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=40), st.floats(0, 1, exclude_max=True), st.data())
def test_what_is_barred_is_never_drawn(logits: list[float], number: float, data: st.DataObject) -> None:
    barred = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    scores = torch.tensor([logits]).index_fill(1, torch.tensor(sorted(barred), dtype=torch.long), -torch.inf)
    for each in (number, 0.0, 1 - 2**-53):
        assert int(drawn(scores, torch.tensor([each], dtype=torch.float64))) not in barred


def test_numbers_belong_to_seed_row_and_sample() -> None:
    request = Request("a", [1], 4)
    seeds = {seed_of(seed, Request(name, [1], 4, number)) for seed in (0, 1) for name in "ab" for number in (0, 1)}
    assert len(seeds) == 8 and seed_of(0, request) == seed_of(0, Request("a", [7, 8], 9))


def test_greedy_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, -torch.inf], [3.0, 1.0, 2.0]])
    assert chooser(GreedyDecoding())(logits, [Row(Request("a", [1], 1)), Row(Request("b", [1], 1))]) == [1, 0]

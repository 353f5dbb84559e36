"""Cached decoding equals the full forward pass for every kind of attention."""

import pytest
import torch
from torch import Tensor
from transformers import Cache, DynamicCache, StaticCache

from pipeline.models import ProvetuneForCausalLM
from tests.models.tiny import KINDS, decoder, ids

TOLERANCE = 1e-5
LENGTH = 20


def decode(model: ProvetuneForCausalLM, tokens: Tensor, mask: Tensor, cache: Cache, start: int, step: int) -> Tensor:
    """Logits of all places: a prompt of `start` tokens, then `step` at a time."""
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    found, begin = [], 0
    while begin < tokens.shape[1]:
        end = min(tokens.shape[1], start if begin == 0 else begin + step)
        chunk = {"attention_mask": mask[:, :end], "position_ids": places[:, begin:end]}
        found.append(model(tokens[:, begin:end], past_key_values=cache, use_cache=True, **chunk).logits)
        begin = end
    return torch.cat(found, 1)


@torch.no_grad()
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("kind", KINDS)
def test_decode_with_left_padding_equals_each_row_alone(kind: str, static: bool) -> None:
    """Rows of a batch, padded on the left, longer than every window: as if each were alone and uncached."""
    model = decoder(**KINDS[kind])
    tokens, mask = ids(3, LENGTH), torch.ones(3, LENGTH, dtype=torch.long)
    mask[1, :4], mask[2, :9] = 0, 0
    cache = StaticCache(model.config, LENGTH + 5) if static else DynamicCache(config=model.config)
    decoded = decode(model, tokens, mask, cache, start=11, step=1)
    for row, padding in enumerate((0, 4, 9)):
        alone = model(tokens[row : row + 1, padding:], use_cache=False).logits[0]
        assert (decoded[row, padding:] - alone).abs().max() <= TOLERANCE
    assert alone.std() > 0.05


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 3, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_several_tokens_at_a_time_equal_the_full_pass(kind: str, start: int) -> None:
    model = decoder(**KINDS[kind])
    tokens, mask = ids(2, LENGTH), torch.ones(2, LENGTH, dtype=torch.long)
    full = model(tokens, use_cache=False).logits
    decoded = decode(model, tokens, mask, DynamicCache(config=model.config), start, step=3)
    assert (decoded - full).abs().max() <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_reordered_cache_continues_other_rows(kind: str) -> None:
    model = decoder(**KINDS[kind])
    tokens = ids(3, LENGTH)
    cache = DynamicCache(config=model.config)
    model(tokens[:, :-1], past_key_values=cache, use_cache=True)
    order = torch.tensor([2, 0, 0])
    cache.reorder_cache(order)
    swapped = torch.cat((tokens[order, :-1], tokens[:, -1:]), 1)
    last = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert (last - model(swapped, use_cache=False).logits[:, -1]).abs().max() <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_beam_search_is_the_same_with_and_without_a_cache(kind: str) -> None:
    model = decoder(**KINDS[kind])
    asked = {"num_beams": 3, "max_new_tokens": 9, "do_sample": False, "attention_mask": torch.ones(2, 9).long()}
    found = [model.generate(ids(2, 9), use_cache=cached, **asked) for cached in (True, False)]
    assert torch.equal(*found)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_per_token_are_those_of_the_cache(kind: str) -> None:
    model = decoder(**KINDS[kind])
    cache = DynamicCache(config=model.config)
    model(ids(2, LENGTH), past_key_values=cache, use_cache=True)
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))  # pyright: ignore
    stated = model.config.kv_bytes_per_token(context=LENGTH, bytes_per_value=4) * LENGTH * 2
    assert held == pytest.approx(stated)
    assert model.config.kv_bytes_per_token(bytes_per_value=4) >= stated / LENGTH / 2


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["eager", "flex_attention"])
def test_implementations_agree(kind: str, implementation: str) -> None:
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, :6] = 0
    for seen in (None, mask):
        reference = decoder(**KINDS[kind])(ids(), attention_mask=seen).logits
        other = decoder(implementation, **KINDS[kind])(ids(), attention_mask=seen).logits
        real = mask.bool() if seen is not None else torch.ones_like(mask).bool()
        assert (other - reference)[real].abs().max() <= TOLERANCE

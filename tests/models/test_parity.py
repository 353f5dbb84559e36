"""The same weights give the same logits as transformers, for every family; imported and exported weights are equal."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.models.families import from_hf, to_hf
from tests.models.families import CASES, VOCABULARY, model

TOLERANCE = 1e-5
LENGTH = 24  # beyond windows and chunks of 7
SEQ2SEQ = [case for case in CASES if case.startswith(("t5", "bart"))]
DECODERS = [case for case in CASES if case not in [*SEQ2SEQ, "bert"]]


def ids(rows: int = 3, length: int = LENGTH, seed: int = 1) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def padded(side: str) -> Tensor:
    """A mask (3, LENGTH): rows without, with 5 and with 11 tokens of padding."""
    mask = torch.ones(3, LENGTH, dtype=torch.long)
    for row, missing in enumerate((0, 5, 11)):
        mask[row, slice(0, missing) if side == "left" else slice(LENGTH - missing, LENGTH)] = 0
    return mask


def close(ours: Tensor, theirs: Tensor, mask: Tensor | None = None) -> None:
    """Within the tolerance wherever a real token stands; logits are of the order of 1."""
    assert theirs.std() > 0.05
    difference = (ours - theirs).abs()
    if mask is not None:
        difference = difference[mask.bool()]
    assert difference.max() <= TOLERANCE, f"largest difference {difference.max():.1e}"


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    theirs = model(request.param)
    return request.param, from_hf(theirs), theirs


@torch.no_grad()
def test_logits_equal_with_and_without_padding(pair: tuple[str, Any, Any]) -> None:
    case, ours, theirs = pair
    for mask in (None, padded("right"), padded("left")):
        more = {"decoder_input_ids": ids(3, 9, 2)} if case in SEQ2SEQ else {}
        mine = ours(ids(), attention_mask=mask, **more).logits
        other = theirs(ids(), attention_mask=mask, **more).logits
        close(mine, other, None if case in SEQ2SEQ else mask)


@torch.no_grad()
@pytest.mark.parametrize("pair", SEQ2SEQ, indirect=True)
def test_decoder_padding_of_an_encoder_decoder(pair: tuple[str, Any, Any]) -> None:
    _, ours, theirs = pair
    more = {"decoder_input_ids": ids(seed=2), "decoder_attention_mask": padded("right")}
    close(ours(ids(), **more).logits, theirs(ids(), **more).logits, padded("right"))


@torch.no_grad()
@pytest.mark.parametrize("pair", DECODERS, indirect=True)
@pytest.mark.parametrize("side", ["none", "left"])
def test_cached_decode_equals_transformers(pair: tuple[str, Any, Any], side: str) -> None:
    _, ours, theirs = pair
    mask = torch.ones(3, LENGTH, dtype=torch.long) if side == "none" else padded("left")
    caches = [DynamicCache(config=ours.config), DynamicCache(config=theirs.config)]
    start = 13
    for begin, end in [(0, start), *((n, n + 1) for n in range(start, LENGTH))]:
        chunk, seen = ids()[:, begin:end], mask[:, :end]
        mine, other = (
            m(chunk, attention_mask=seen, past_key_values=c, use_cache=True).logits
            for m, c in zip((ours, theirs), caches, strict=True)
        )
        close(mine, other, mask[:, begin:end])


@torch.no_grad()
@pytest.mark.parametrize("pair", [*DECODERS, *SEQ2SEQ], indirect=True)
def test_greedy_text_equals_transformers(pair: tuple[str, Any, Any]) -> None:
    case, ours, theirs = pair
    asked = {"max_new_tokens": 12, "do_sample": False, "num_beams": 1, "eos_token_id": None, "pad_token_id": 0}
    # transformers counts padding into Llama 4's temperature while generating; ours counts the text
    mask = torch.ones_like(ids()) if case == "llama4" else padded("left")
    prompts = {"input_ids": ids(), "attention_mask": mask}
    assert torch.equal(ours.generate(**prompts, **asked), theirs.generate(**prompts, **asked))


def test_weights_survive_the_round_trip_bit_by_bit(pair: tuple[str, Any, Any]) -> None:
    _, ours, theirs = pair
    back = to_hf(ours, copy.deepcopy(theirs.config)).state_dict()
    before = theirs.state_dict()
    assert back.keys() == before.keys()
    assert all(torch.equal(back[name], before[name]) for name in before)


def test_token_types_of_bert() -> None:
    theirs = model("bert")
    types = (torch.arange(LENGTH) > 8).long().expand(3, -1)
    with torch.no_grad():
        close(from_hf(theirs)(ids(), token_type_ids=types).logits, theirs(ids(), token_type_ids=types).logits)


def test_an_unknown_family_is_refused() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    tiny = OPTConfig(vocab_size=8, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=1)
    with pytest.raises(ValueError, match="model_type='opt': must be one of llama"):
        from_hf(OPTForCausalLM(tiny))


def test_dynamic_scaling_is_refused() -> None:
    theirs = model("llama")
    theirs.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    with pytest.raises(ValueError, match="rope_type='dynamic': must be default, linear, llama3 or yarn"):
        from_hf(theirs)

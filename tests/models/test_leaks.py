"""No token sees what it must not: proved by gradients, which are exactly zero where nothing flows."""

import pytest
import torch
from torch import Tensor

from pipeline.models import ProvetuneForCausalLM, ProvetuneModel
from tests.models.tiny import KINDS, config, decoder, ids, randomise

LENGTH = 20
CAUSAL = {name: values for name, values in KINDS.items() if name != "experts"}


def influence(model: ProvetuneForCausalLM | ProvetuneModel, place: int, **more: Tensor) -> Tensor:
    """Size of the gradient of the output at `place` (first row) with respect to each input embedding, (B, T)."""
    embeds = torch.randn(2, LENGTH, 32, generator=torch.Generator().manual_seed(3)).requires_grad_()
    out = model(inputs_embeds=embeds, **more)
    output = out.logits if hasattr(out, "logits") else out.last_hidden_state
    weights = torch.randn(output.shape[-1], generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad((output[0, place] * weights).sum(), embeds)
    return gradient.abs().sum(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_never_sees_the_future_nor_another_row(kind: str) -> None:
    model = decoder(**KINDS[kind])
    for place in (0, 7, 19):
        found = influence(model, place)
        assert (found[0, place + 1 :] == 0).all() and (found[1] == 0).all()
        assert found[0, place] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_are_as_if_alone(kind: str) -> None:
    """Two documents in a row: no gradient crosses, and the second one's logits are those that it has alone."""
    model = decoder(**KINDS[kind])
    places = torch.cat((torch.arange(8), torch.arange(12))).expand(2, -1)
    assert (influence(model, 13, position_ids=places)[0, :8] == 0).all()
    with torch.no_grad():
        packed = model(ids(), position_ids=places, use_cache=False).logits[:, 8:]
        assert (packed - model(ids()[:, 8:], use_cache=False).logits).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_padding_leaks_nothing(kind: str) -> None:
    model = decoder(**KINDS[kind])
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, :6] = 0
    found = influence(model, 19, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
    assert (found[0, :6] == 0).all() and torch.isfinite(found).all()


def reach(kind: str, place: int) -> set[int]:
    """Which inputs one layer of the kind reads for an output."""
    values = KINDS[kind] | {"num_hidden_layers": 1, "layer_types": None}
    if kind == "chunked":
        values["layer_types"] = ["chunked_attention"]
    return set(influence(decoder(**values), place)[0].nonzero().flatten().tolist())


def test_windows_chunks_and_blocks_are_as_wide_as_said() -> None:
    assert reach("multi_head", 17) == set(range(18))
    assert reach("sliding", 17) == {13, 14, 15, 16, 17}
    assert reach("chunked", 17) == {15, 16, 17}
    assert reach("block_sparse", 17) == {0, 1, 2} | set(range(12, 18))


@pytest.mark.parametrize("kind", ["full", "low_rank", "sliding", "block_sparse", "t5", "alibi"])
def test_an_encoder_sees_both_sides_and_no_padding(kind: str) -> None:
    positions = kind if kind in ("t5", "alibi") else "rope"
    pattern = kind if positions == "rope" else "full"
    more = {"sliding_window": 5} if kind == "sliding" else {"sparse_block_size": 3, "low_rank_size": 8}
    model = randomise(ProvetuneModel(config(shape="encoder", positions=positions, pattern=pattern, **more))).eval()
    assert isinstance(model, ProvetuneModel)
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, 15:] = 0
    found = influence(model, 7, attention_mask=mask)
    assert (found[0, 15:] == 0).all() and (found[1] == 0).all()
    assert found[0, 6] > 0 and found[0, 8] > 0

"""Mixtures of experts: dispatch equals a dense loop, losses equal their definitions, balance works."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.experts import Experts, MixtureOfExperts, Router, balance_experts, balance_loss, z_loss
from pipeline.models.routing import record_routing
from tests.models.tiny import config, decoder, ids, randomise

SWITCH: dict[str, Any] = {"num_experts": 6, "experts_per_token": 1, "router_normalise": False}
MIXTRAL: dict[str, Any] = {"num_experts": 6, "experts_per_token": 2}
DEEPSEEK: dict[str, Any] = {
    "num_experts": 8, "experts_per_token": 3, "shared_experts": 2, "expert_intermediate_size": 12,
    "router_score": "sigmoid", "router_bias": True, "router_groups": 4, "router_top_groups": 2,
    "router_group_score": "top2", "router_scale": 2.5,
}  # fmt: skip
LLAMA4: dict[str, Any] = SWITCH | {"router_score": "sigmoid", "router_weights_input": True, "shared_experts": 1}
ROUTERS = {"switch": SWITCH, "mixtral": MIXTRAL, "deepseek": DEEPSEEK, "llama4": LLAMA4}


def mixture(**changes: Any) -> MixtureOfExperts:
    made = randomise(MixtureOfExperts(config(**changes))).eval()
    assert isinstance(made, MixtureOfExperts)
    return made


def dense(moe: MixtureOfExperts, x: Tensor, capacity: int | None = None) -> Tensor:
    """Token by token and expert by expert, as the papers write it."""
    _, weights, indices = moe.router(x)
    out = moe.shared(x) if moe.shared is not None else torch.zeros_like(x)
    experts, taken, rows = moe.experts, [0] * moe.config.num_experts, []
    for token in range(len(x)):
        row = out[token]
        for weight, expert in zip(weights[token], indices[token].tolist(), strict=True):
            taken[expert] += 1
            if capacity is not None and taken[expert] > capacity:
                continue
            inner = x[token] * weight if experts.weights_input else x[token]
            gate, up = (experts.gate_up_proj[expert] @ inner).chunk(2)
            found = experts.down_proj[expert] @ (F.silu(gate) * up)
            row = row + (found if experts.weights_input else found * weight)
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ROUTERS)
def test_dispatch_equals_a_dense_loop_with_its_gradients(kind: str) -> None:
    moe = mixture(**ROUTERS[kind])
    x = torch.randn(24, 32, requires_grad=True)
    wanted, found = dense(moe, x), moe(x.view(2, 12, 32))[0].flatten(0, 1)
    assert (found - wanted).abs().max() <= 1e-5 and wanted.std() > 0.05
    direction = torch.randn_like(wanted)
    leaves = [x, *moe.parameters()]
    for one, other in zip(
        torch.autograd.grad((found * direction).sum(), leaves, allow_unused=True),
        torch.autograd.grad((wanted * direction).sum(), leaves, allow_unused=True),
        strict=True,
    ):
        assert one is not None and other is not None and (one - other).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", ["switch", "mixtral"])
def test_capacity_drops_the_last_tokens_of_a_full_expert(kind: str) -> None:
    moe = mixture(**ROUTERS[kind], capacity_factor=0.5)
    x = torch.randn(24, 32)
    capacity = -(-24 * moe.config.experts_per_token // 12)
    found = moe(x[None])[0][0]
    assert (found - dense(moe, x, capacity)).abs().max() <= 1e-5
    assert (found - dense(moe, x)).abs().max() > 1e-2
    roomy = mixture(**ROUTERS[kind], capacity_factor=6.0)
    assert (roomy(x[None])[0][0] - dense(roomy, x)).abs().max() <= 1e-5


def test_routers_weigh_as_their_papers_say() -> None:
    x = torch.randn(50, 32)
    logits, weights, indices = mixture(**SWITCH).router(x)
    assert torch.equal(weights, logits.softmax(-1).max(-1, keepdim=True).values)
    logits, weights, indices = mixture(**MIXTRAL).router(x)
    assert torch.allclose(weights, logits.topk(2).values.softmax(-1), atol=1e-6)
    assert torch.equal(indices, logits.topk(2).indices)
    router = mixture(**DEEPSEEK).router
    logits, weights, indices = router(x)
    assert torch.allclose(weights.sum(-1), torch.full((50,), 2.5), atol=1e-5)
    assert all(len({int(i) // 2 for i in row}) <= 2 for row in indices)
    assert router.bias is not None
    router.bias[:] = torch.tensor([9.0, 9, 9, 9, 0, 0, 0, 0])
    biased = router(x)
    assert biased[2].max() < 4 and torch.equal(biased[0], logits)  # the choice moves, the scores do not


def test_losses_equal_their_definitions() -> None:
    logits = torch.randn(40, 6)
    probabilities, indices = logits.softmax(-1), logits.topk(2).indices
    wanted = 0.0
    for expert in range(6):
        share = sum(float(expert in row) for row in indices) / (2 * 40)
        wanted += 6 * share * probabilities[:, expert].mean().item()
    assert balance_loss(probabilities, indices).item() == pytest.approx(wanted, rel=1e-6)
    even = torch.arange(6).repeat(20).view(-1, 2)
    assert balance_loss(torch.full((60, 6), 1 / 6), even).item() == pytest.approx(1.0)
    assert z_loss(logits).item() == pytest.approx((logits.exp().sum(-1).log() ** 2).mean().item(), rel=1e-5)


def test_the_router_loss_is_added_when_training_and_skips_padding() -> None:
    model = decoder(**MIXTRAL, balance_loss=0.5, z_loss=0.25).train()
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 12:] = 0
    out = model(ids(), attention_mask=mask, labels=ids().masked_fill(mask == 0, -100))
    caught: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _m, _i, o: caught.append((o[0], o[2])))
    model(ids(), attention_mask=mask)
    real = mask.bool().flatten()
    wanted = sum(0.5 * balance_loss(lo[real].softmax(-1), ix[real]) + 0.25 * z_loss(lo[real]) for lo, ix in caught)
    assert len(caught) == 3 and torch.allclose(out.router_loss, torch.as_tensor(wanted), atol=1e-5)
    plain = model.eval()(ids(), attention_mask=mask, labels=ids().masked_fill(mask == 0, -100))
    assert plain.router_loss is None and torch.allclose(out.loss, plain.loss + out.router_loss, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_router_losses_train_through_gradient_checkpointing(checkpointing: bool) -> None:
    model = decoder(**MIXTRAL, balance_loss=1.0, z_loss=1.0).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    model(ids(), labels=ids()).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "router" in name]
    reference = decoder(**MIXTRAL, balance_loss=1.0, z_loss=1.0).train()
    reference(ids(), labels=ids()).loss.backward()
    for found, wanted in zip(
        gradients, (p.grad for n, p in reference.named_parameters() if "router" in n), strict=True
    ):
        assert found is not None and wanted is not None and torch.allclose(found, wanted, atol=1e-6)


def test_the_bias_moves_load_to_idle_experts() -> None:
    moe = mixture(**DEEPSEEK | {"router_groups": 1, "router_top_groups": 1}, router_bias_rate=0.02).train()
    x = torch.randn(1, 400, 32) + 0.5

    def spread() -> float:
        return torch.bincount(moe.router(x[0])[2].flatten(), minlength=8).float().std().item()

    before = spread()
    moe.router.load.zero_()
    for _step in range(60):
        moe(x)
        balance_experts(moe)
    assert spread() < 0.3 * before and moe.router.bias is not None and moe.router.bias.abs().sum() > 0


def test_one_shared_feed_forward_holds_all_shared_experts() -> None:
    moe = mixture(**DEEPSEEK)
    assert moe.shared is not None and moe.shared.up_proj.weight.shape == (24, 32)
    assert isinstance(moe.experts, Experts) and moe.experts.gate_up_proj.shape == (8, 24, 32)


def test_statistics_say_which_tokens_each_expert_takes() -> None:
    model = decoder(**SWITCH, expert_layers=[1, 2])
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, :7] = 0
    with record_routing(model) as routing:
        model(ids(), attention_mask=mask)
        model(ids(seed=5))
    assert list(routing.shares()) == ["model.layers.1", "model.layers.2"]
    for layer, shares in routing.shares().items():
        assert sum(shares) == pytest.approx(1) and sum(routing.counts[layer].values()) == 33 + 40
    rows = routing.table(lambda token: f"<{token}>", top=3)
    assert len(rows) == 12 and all(len(row["tokens"]) <= 3 for row in rows)
    best = next(row for row in rows if row["tokens"])["tokens"][0]
    assert best["part"] == max(t["part"] for t in next(row for row in rows if row["tokens"])["tokens"])
    model(ids())  # nothing is recorded any more
    assert sum(routing.counts["model.layers.1"].values()) == 73

"""Heads, norms and activations against their definitions; what is Hugging Face about the models."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from pipeline.models import (
    ProvetuneForCausalLM,
    ProvetuneForConditionalGeneration,
    ProvetuneForMaskedLM,
    ProvetuneForSequenceClassification,
    ProvetuneForTokenClassification,
    ProvetuneModel,
)
from pipeline.models.feed_forward import FeedForward
from pipeline.models.norms import RMSNorm
from pipeline.models.positions import alibi_slopes, rope_frequencies, rotate, sinusoids
from tests.models.tiny import KINDS, config, decoder, ids, randomise

SEQ2SEQ: dict[str, Any] = {"shape": "encoder_decoder", "positions": "t5", "decoder_start_token_id": 0}
HEADS: list[tuple[Any, Any, dict[str, Any]]] = [
    (AutoModel, ProvetuneModel, {}),
    (AutoModelForCausalLM, ProvetuneForCausalLM, {"tie_word_embeddings": True}),
    (AutoModelForCausalLM, ProvetuneForCausalLM, {"multi_token_layers": 2} | KINDS["latent"]),
    (AutoModelForMaskedLM, ProvetuneForMaskedLM, {"shape": "encoder", "mlm_transform": True}),
    (AutoModelForSeq2SeqLM, ProvetuneForConditionalGeneration, SEQ2SEQ | {"tie_word_embeddings": True}),
    (AutoModelForSequenceClassification, ProvetuneForSequenceClassification, {"num_labels": 3}),
    (AutoModelForTokenClassification, ProvetuneForTokenClassification, {"shape": "encoder", "num_labels": 5}),
]
ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "gelu_sigmoid": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "swish": lambda x: x / (1 + torch.exp(-1.5 * x)),
}
GATES = {"glu": torch.sigmoid, "reglu": F.relu, "geglu": ACTIVATIONS["gelu"], "swiglu": ACTIVATIONS["silu"]}


@pytest.mark.parametrize("kind", [*ACTIVATIONS, *GATES])
def test_feed_forwards_equal_their_formulas(kind: str) -> None:
    made = randomise(FeedForward(config(feed_forward=kind, swish_beta=1.5, feed_forward_bias=True), 48))
    assert isinstance(made, FeedForward)
    x = torch.randn(5, 32)
    inner = made.up_proj(x)
    if kind in GATES:
        assert made.gate_proj is not None
        inner = GATES[kind](made.gate_proj(x)) * inner
    else:
        inner = ACTIVATIONS[kind](inner)
    assert torch.allclose(made(x), made.down_proj(inner), atol=1e-5)


def test_the_lean_norm_and_gate_have_the_right_gradients() -> None:
    from pipeline.models.feed_forward import _LeanSwiGLU
    from pipeline.models.norms import _LeanRMSNorm

    x, y = (torch.randn(2, 3, 8, dtype=torch.double, requires_grad=True) for _ in range(2))
    weight = torch.rand(8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, w: _LeanRMSNorm.apply(a, w, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(_LeanSwiGLU.apply, (x, y))
    norm = RMSNorm(8, 1e-6, unit_offset=True)
    with torch.no_grad():
        reference = norm(x.float())
    assert torch.allclose(norm(x.float()), reference, atol=1e-6)


@pytest.mark.parametrize("position", ["pre", "post", "sandwich"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_norms_stand_where_they_are_said_to(norm: str, position: str) -> None:
    model = decoder(norm=norm, norm_position=position, num_hidden_layers=1)
    block, x = model.model.layers[0], torch.randn(1, 6, 32)
    around = model.model.surroundings(x, None, torch.arange(6)[None], None)[0]
    attend = lambda y: block.self_attn(y, around)[0]  # noqa: E731
    one, two = block.attention_norm, block.mlp_norm
    if position == "pre":
        wanted = x + attend(one(x))
        wanted = wanted + block.mlp(two(wanted))
    elif position == "post":
        wanted = one(x + attend(x))
        wanted = two(wanted + block.mlp(wanted))
    else:
        wanted = x + block.attention_post_norm(attend(one(x)))
        wanted = wanted + block.mlp_post_norm(block.mlp(two(wanted)))
    assert torch.allclose(block(x, around)[0], wanted, atol=1e-6)


def test_positions_by_their_formulas() -> None:
    assert alibi_slopes(8).tolist() == [2 ** -(n + 1) for n in range(8)]
    assert len(set(alibi_slopes(12).tolist())) == 12
    table = sinusoids(torch.arange(5)[None], 8)[0]
    assert table[3, 2:4].tolist() == pytest.approx([0.2955202, 0.9553365])  # wavelength 10: sine and cosine of 0.3
    plain = rope_frequencies(config(), False)[0]
    ntk = rope_frequencies(config(rope_scaling_kind="ntk", rope_factor=4.0), False)[0]
    assert ntk[0] == plain[0] and ntk[-1].item() == pytest.approx(plain[-1].item() / 4, rel=1e-5)
    angle = torch.tensor([[[[0.5]]]])
    turned = rotate(torch.tensor([[[[1.0, 0.0]]]]), (angle.cos(), angle.sin()), "halves")
    assert turned[0, 0, 0].tolist() == pytest.approx([0.8775826, 0.4794255])


def test_composite_loss_is_task_plus_weighted_language_loss() -> None:
    labels, mask = torch.tensor([1, 0]), torch.ones(2, 20, dtype=torch.long)
    mask[1, 12:] = 0
    made = randomise(ProvetuneForSequenceClassification(config(lm_loss_weight=0.5))).eval()
    plain = randomise(ProvetuneForSequenceClassification(config())).eval()
    task = plain(ids(), attention_mask=mask, labels=labels).loss
    language = ProvetuneForCausalLM(config(tie_word_embeddings=True)).eval()
    language.model.load_state_dict(made.model.state_dict())
    lm = language(ids(), attention_mask=mask, labels=ids().masked_fill(mask == 0, -100)).loss
    assert torch.allclose(made(ids(), attention_mask=mask, labels=labels).loss, task + 0.5 * lm, atol=1e-5)
    with pytest.raises(ValueError, match="lm_loss_weight=0.5: only a decoder has a next token"):
        ProvetuneForSequenceClassification(config(shape="encoder", lm_loss_weight=0.5))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_reward_is_read_at_the_last_token(side: str) -> None:
    reward = randomise(ProvetuneForSequenceClassification(config(num_labels=1))).eval()
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, slice(0, 6) if side == "left" else slice(14, 20)] = 0
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    batch = reward(ids(), attention_mask=mask, position_ids=places).logits
    assert batch.shape == (2, 1)
    alone = ids()[1:, 6:] if side == "left" else ids()[1:, :14]
    assert torch.allclose(reward(alone).logits, batch[1:], atol=1e-5)


def test_further_tokens_are_predicted_from_earlier_ones_alone() -> None:
    model = decoder(multi_token_layers=2).train()
    out = model(ids(), labels=ids())
    plain = decoder().train()
    plain.load_state_dict(model.state_dict(), strict=False)
    expected = plain(ids(), labels=ids()).loss + model.config.multi_token_loss * out.multi_token_loss
    assert torch.allclose(out.loss, expected, atol=1e-5)
    step = model.multi_token[0]
    embeds = torch.randn(1, 8, 32, requires_grad=True)
    around = model.model.surroundings(embeds, None, torch.arange(8)[None], None)[-1]
    found = torch.autograd.grad(step(embeds, embeds, around)[0][0, 4].sum(), embeds)[0].abs().sum(-1)[0]
    assert (found[5:] == 0).all() and (found[:5] > 0).all()


@pytest.mark.parametrize("accumulated", [None, 60])
def test_losses_count_labelled_tokens(accumulated: int | None) -> None:
    model, labels = decoder(), ids().clone()
    labels[:, :7] = -100
    logits = model(ids()).logits[:, 6:-1].flatten(0, 1)
    wanted = F.cross_entropy(logits, labels[:, 7:].flatten(), reduction="sum") / (accumulated or 26)
    assert torch.allclose(model(ids(), labels=labels, num_items_in_batch=accumulated).loss, wanted, atol=1e-5)


def run(model: Any) -> Tensor:
    more = {"decoder_input_ids": ids(2, 6)} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return next(v for k, v in model(ids(), **more).items() if k in ("logits", "last_hidden_state"))


@pytest.mark.parametrize(("auto", "head", "values"), HEADS, ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_saved_models_load_through_the_auto_class(auto: Any, head: Any, values: dict[str, Any], tmp_path: Path) -> None:
    model = randomise(head(config(**values))).eval()
    model.save_pretrained(tmp_path)  # pyright: ignore
    again = auto.from_pretrained(tmp_path).eval()
    assert type(again) is head and torch.equal(run(again), run(model))


@pytest.mark.end_to_end
def test_a_saved_model_loads_elsewhere_with_its_own_code(tmp_path: Path) -> None:
    """In a process that cannot import this project, with trust_remote_code."""
    model = decoder(**KINDS["latent"], num_experts=4)
    model.save_pretrained(tmp_path / "saved")
    text = model.generate(ids(), max_new_tokens=5, do_sample=False)
    torch.save((ids(), model(ids()).logits.detach(), text), tmp_path / "t")
    script = (
        "import sys, torch\nfrom transformers import AutoModelForCausalLM\n"
        "m = AutoModelForCausalLM.from_pretrained('saved', trust_remote_code=True).eval()\n"
        "ids, logits, text = torch.load('t')\nassert 'pipeline' not in sys.modules\n"
        "assert torch.allclose(m(ids).logits, logits, atol=1e-6)\n"
        "assert torch.equal(m.generate(ids, max_new_tokens=5, do_sample=False), text)\n"
    )
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["grouped_query", "latent", "experts", "t5"])
def test_gradient_checkpointing_changes_no_gradient(kind: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = decoder(**KINDS[kind]).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(ids(), labels=ids()).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert one is not None and two is not None and torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("kind", ["grouped_query", "latent", "experts"])
def test_peft_adapts_the_named_modules_and_decodes_with_them(kind: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = decoder(**KINDS[kind])
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules=model.config.lora_target_modules))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.eval()
    text = adapted.generate(input_ids=ids(1, 6), max_new_tokens=6, do_sample=False)
    with torch.no_grad():
        full = adapted(input_ids=text, use_cache=False).logits
    assert torch.equal(full[:, 5:-1].argmax(-1), text[:, 6:])  # the cache sees the adapters too


def test_hidden_states_and_attentions_on_request() -> None:
    out = decoder("eager")(ids(), output_hidden_states=True, output_attentions=True)
    assert len(out.hidden_states) == 4 and len(out.attentions) == 3
    assert torch.allclose(out.attentions[0].sum(-1), torch.ones(2, 4, 20), atol=1e-5)


@pytest.mark.parametrize("cache", ["static", "dynamic"])
@pytest.mark.parametrize("kind", ["multi_head", "latent", "interleaved", "chunked"])
def test_generate_is_the_same_on_every_cache(kind: str, cache: str) -> None:
    model = decoder(**KINDS[kind])
    asked: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
    found = model.generate(ids(), cache_implementation=cache, **asked)
    assert torch.equal(found, model.generate(ids(), use_cache=False, **asked))

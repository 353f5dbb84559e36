"""Published sizes without allocating a weight; every nano variant learns."""

import pytest
import torch

from pipeline.models.sizes import HEADS, size
from tests.models.variants import NAMES, NANO, architecture, config

M, B = 1e6, 1e9
PUBLISHED = {  # where the figure stands
    "gpt1": 117 * M,  # as quoted since GPT-2's paper
    "gpt2": 124 * M,  # the released file's name
    "gpt2_xl": 1558 * M,  # the released file's name; 1.5 B in the paper
    "gpt3": 175 * B,  # arXiv:2005.14165, table 2.1
    "llama1": 6.7 * B,  # arXiv:2302.13971, table 2
    "llama2": 6.74 * B,  # the model card
    "llama3": 8.03 * B,  # the model card
    "llama3_1_405b": 405 * B,  # arXiv:2407.21783
    "llama4": 400 * B,  # the model card, with the vision half that we lack
    "mistral": 7.24 * B,  # the model card
    "mixtral": 46.7 * B,  # Mistral's announcement
    "gemma1": 524_550_144 + 1_981_884_416,  # arXiv:2403.08295, table 2
    "gemma2": 917_962_752 + 8_324_201_984,  # arXiv:2408.00118, table 2
    "gemma3": 302 * M + 698 * M,  # arXiv:2503.19786, table 1
    "qwen2": 7.62 * B,  # the model card
    "qwen3": 8.2 * B,  # arXiv:2505.09388, table 1
    "phi": 2.78 * B,  # the model card's weights; 2.7 B in its text
    "deepseek_v2": 236 * B,  # arXiv:2405.04434
    "deepseek_v3": 671 * B,  # arXiv:2412.19437
    "bert": 110 * M,  # arXiv:1810.04805
    "roberta": 125 * M,  # the release notes
    "t5": 223 * M,  # the checkpoint; 220 M in arXiv:1910.10683
    "bart": 406 * M,  # the release notes
}
UNPUBLISHED = {"gemini"}


def test_every_variant_has_a_published_size_or_says_that_none_exists() -> None:
    assert {name for name in NAMES if name not in NANO} == set(PUBLISHED) | UNPUBLISHED
    alike = {"gpt2_xl": "gpt2", "llama3_1_405b": "llama3"}
    assert {alike.get(name, name) for name in NAMES if name not in NANO} == {
        name.removesuffix("_nano") for name in NANO
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(name: str) -> None:
    assert size(config(name)).total == pytest.approx(PUBLISHED[name], rel=0.01)


def test_active_parameters_are_as_published() -> None:
    assert size(config("mixtral")).active == pytest.approx(12.9 * B, rel=0.01)
    # DeepSeek counts the table of input embeddings once per token read, as a row
    third, second = size(config("deepseek_v3")), size(config("deepseek_v2"))
    assert third.active - third.embedding == pytest.approx(36.7 * B, rel=0.01)  # README_WEIGHTS of the release
    assert second.active - second.embedding == pytest.approx(21 * B, rel=0.01)
    assert round(size(config("llama4")).active / B) == 17


def test_hydra_composes_a_nano_variant_on_its_published_one() -> None:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("conf", version_base="1.3"):
        chosen = OmegaConf.to_container(compose("config", ["model=scratch/deepseek_v3_nano"]).model)
    assert chosen == {"source": "scratch", "architecture": architecture("deepseek_v3_nano")}


@pytest.mark.parametrize("name", NANO)
def test_nano_variants_learn(name: str) -> None:
    chosen = config(name, pad_token_id=0, decoder_start_token_id=0, dropout=0.0, attention_dropout=0.0)
    assert size(chosen).total < 3e6
    torch.manual_seed(0)
    model = HEADS[chosen.shape](chosen).train()
    ids = torch.randint(1, chosen.vocab_size, (2, 96))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _step in range(8):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3, losses

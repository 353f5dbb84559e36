"""Contrastive search against its definition; α = 0 is greedy."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.decoding.choose import Request
from eval.decoding.config import ContrastiveDecoding, GreedyDecoding
from eval.decoding.contrastive import contrastive_search
from eval.decoding.engine import answers
from tests.models.families import model as theirs
from tests.models.tiny import KINDS, decoder, ids

ASKED: dict[str, Any] = {"max_new_tokens": 10, "eos_token_id": None, "pad_token_id": 0, "do_sample": False}
MODELS = {
    "ours": lambda: decoder(),
    "sliding": lambda: decoder(**KINDS["sliding"]),
    "latent": lambda: decoder(**KINDS["latent"]),
    "gpt2": lambda: theirs("gpt2"),
    "mistral": lambda: theirs("mistral"),
}
PROMPTS = [Request("a", ids(1, 9)[0].tolist(), 10), Request("b", ids(1, 5, seed=3)[0].tolist(), 10)]


def searched(model: Any, decoding: Any, stops: frozenset[int] = frozenset()) -> list[list[int]]:
    return [row.tokens for row in answers(model, PROMPTS, decoding, stops, 0, 2)]


def naive(model: Any, row: Tensor, steps: int, k: int, alpha: float) -> list[int]:
    """As the paper defines it: no cache, no padding, a full pass for every candidate."""
    start = len(row)
    for _step in range(steps):
        out = model(row[None], output_hidden_states=True, use_cache=False)
        past = F.normalize(out.hidden_states[-1][0], dim=-1)
        scores = []
        probabilities = out.logits[0, -1].softmax(-1)
        for token in probabilities.topk(k).indices:
            longer = torch.cat((row, token[None]))
            last = model(longer[None], output_hidden_states=True, use_cache=False).hidden_states[-1][0, -1]
            likeness = max(float(F.cosine_similarity(last, other, dim=0)) for other in past)
            scores.append(((1 - alpha) * float(probabilities[token]) - alpha * likeness, token))
        row = torch.cat((row, max(scores, key=lambda pair: pair[0])[1][None]))
    return row[start:].tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_the_search_equals_its_definition(name: str) -> None:
    model = MODELS[name]()
    found = searched(model, ContrastiveDecoding(candidates=3, alpha=0.6))
    assert found == [naive(model, torch.tensor(request.prompt), 10, 3, 0.6) for request in PROMPTS]


@pytest.mark.parametrize("name", MODELS)
def test_alpha_zero_is_greedy(name: str) -> None:
    model = MODELS[name]()
    greedy = searched(model, GreedyDecoding())
    assert searched(model, ContrastiveDecoding(alpha=0.0)) == greedy
    assert searched(model, ContrastiveDecoding(alpha=0.9)) != greedy


def test_it_stops_at_the_stop_token() -> None:
    model = decoder()
    free = searched(model, ContrastiveDecoding())
    stopped = searched(model, ContrastiveDecoding(), frozenset({free[0][2]}))
    assert stopped[0] == free[0][: free[0].index(free[0][2]) + 1]


def test_generate_takes_it_with_processors() -> None:
    model, prompt = decoder(), torch.tensor([PROMPTS[0].prompt])
    free = model.generate(prompt, custom_generate=contrastive_search, **ASKED)
    barred = int(free[0, 11])
    found = model.generate(prompt, custom_generate=contrastive_search, **ASKED, suppress_tokens=[barred])
    assert free.shape == found.shape == (1, 19) and barred not in found[0, 9:]


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_a_senseless_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}, candidates=4: alpha must be from 0 to 1"):
        contrastive_search(decoder(), ids(1, 3), alpha=alpha)

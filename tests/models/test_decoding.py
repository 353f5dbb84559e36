"""Decoding: contrastive search against its definition, every kind of settings, voting and thinking budgets."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from pipeline.models.decoding import budget_forced, decode, self_consistent, vote
from tests.models.families import model as theirs
from tests.models.tiny import KINDS, decoder, ids

FILES = sorted((Path(__file__).parent / "decodings").glob("*.yaml"))
ASKED: dict[str, Any] = {"max_new_tokens": 10, "eos_token_id": None, "pad_token_id": 0}
MODELS = {
    "ours": lambda: decoder(),
    "sliding": lambda: decoder(**KINDS["sliding"]),
    "latent": lambda: decoder(**KINDS["latent"]),
    "gpt2": lambda: theirs("gpt2"),
    "mistral": lambda: theirs("mistral"),
}


def prompts() -> dict[str, Tensor]:
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0
    return {"input_ids": ids(2, 9), "attention_mask": mask}


def naive(model: Any, row: Tensor, steps: int, k: int, alpha: float) -> list[int]:
    """Contrastive search as its paper defines it: no cache, no padding, a full pass for every candidate."""
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
    return row.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_contrastive_search_equals_its_definition(name: str) -> None:
    model, inputs = MODELS[name](), prompts()
    found = decode(model, inputs, "contrastive", candidates=3, alpha=0.6, **ASKED)
    assert found[0].tolist() == naive(model, inputs["input_ids"][0], 10, 3, 0.6)
    assert found[1, 4:].tolist() == naive(model, inputs["input_ids"][1, 4:], 10, 3, 0.6)


@pytest.mark.parametrize("name", MODELS)
def test_alpha_zero_is_greedy(name: str) -> None:
    model = MODELS[name]()
    greedy = decode(model, prompts(), do_sample=False, **ASKED)
    assert torch.equal(decode(model, prompts(), "contrastive", candidates=4, alpha=0.0, **ASKED), greedy)
    assert not torch.equal(decode(model, prompts(), "contrastive", candidates=4, alpha=0.9, **ASKED), greedy)


def test_contrastive_search_stops_at_the_end_token_and_obeys_processors() -> None:
    model = decoder()
    free = decode(model, prompts(), "contrastive", **ASKED)
    end = int(free[0, 9 + 2])
    stopped = decode(model, prompts(), "contrastive", **ASKED | {"eos_token_id": end})
    first = free[0, 9:].tolist().index(end)
    assert (stopped[0, 9 + first + 1 :] == 0).all() and stopped[0, 9 + first] == end
    barred = decode(model, prompts(), "contrastive", **ASKED, suppress_tokens=[end])
    assert end not in barred[:, 9:]


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_a_senseless_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}, candidates=4: alpha must be from 0 to 1"):
        decode(decoder(), prompts(), "contrastive", alpha=alpha, **ASKED)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method='beams': must be one of generate, contrastive"):
        decode(decoder(), prompts(), "beams")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("name", ["ours", "gpt2"])
def test_every_named_decoding_runs(name: str, file: Path) -> None:
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    model = MODELS[name]()
    torch.manual_seed(1)
    found = decode(model, prompts(), **settings, **ASKED)
    assert found.shape == (2, 19)
    torch.manual_seed(1)
    assert torch.equal(decode(model, prompts(), **settings, **ASKED), found)


def test_named_decodings_are_what_they_say() -> None:
    names = {file.stem for file in FILES}
    assert names == {"greedy", "beam", "random", "temperature", "top_k", "top_p", "min_p", "contrastive"}


def test_the_majority_wins_and_the_first_of_equals() -> None:
    found = vote(["so 4", "hence 5", "it is 4", "unclear"], lambda text: text[-1] if text[-1].isdigit() else None)
    assert found.answer == "4" and found.share == 0.5 and found.counts == {"4": 2, "5": 1}
    assert vote(["b", "a"], str).answer == "b"
    assert vote(["x"], lambda _: None).answer is None


class Letters:
    """A tokenizer of single numbers."""

    def __call__(self, text: str, **_: Any) -> Any:
        from transformers import BatchEncoding

        tokens = torch.tensor([[int(part) for part in text.split()]])
        return BatchEncoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})

    def batch_decode(self, rows: Tensor, **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in rows.tolist()]


def test_self_consistency_votes_over_samples() -> None:
    torch.manual_seed(0)
    found = self_consistent(decoder(), Letters(), "5 6 7", lambda text: text.split()[-1], samples=12, max_new_tokens=3)
    assert sum(found.counts.values()) == 12 and found.answer in found.counts
    assert found.share == max(found.counts.values()) / 12


class Scripted:
    """A model that thinks two tokens, ends, and would so for ever; it answers with 7."""

    device = torch.device("cpu")

    def generate(self, input_ids: Tensor, max_new_tokens: int, stopping_criteria: Any = None, **_: Any) -> Tensor:
        for step in range(max_new_tokens):
            token = 7 if stopping_criteria is None else (1, 1, 9)[step % 3]
            input_ids = torch.cat((input_ids, torch.tensor([[token]])), 1)
            if stopping_criteria is not None and stopping_criteria(input_ids, None).all():
                break
        return input_ids


@pytest.mark.parametrize(
    ("least", "most", "thoughts"),
    [(0, 8, [1, 1]), (2, 8, [1, 1]), (3, 8, [1, 1, 5, 1, 1]), (8, 8, [1, 1, 5, 1, 1, 5, 1, 1]), (0, 1, [1])],
)
def test_thinking_is_prolonged_and_cut(least: int, most: int, thoughts: list[int]) -> None:
    thought, answer = budget_forced(Scripted(), torch.tensor([[3]]), [9], [5], least, most, answer_tokens=2)
    assert thought.tolist() == [thoughts] and answer.tolist() == [[7, 7]]


def test_budget_forcing_on_a_real_model() -> None:
    thought, answer = budget_forced(decoder(), ids(1, 5), [3, 4], [6], 6, 12, 4, do_sample=False)
    assert 6 <= thought.shape[1] <= 12 and 1 <= answer.shape[1] <= 4
    with pytest.raises(ValueError, match="rows=2, least=6, most=12: one prompt"):
        budget_forced(decoder(), ids(2, 5), [3], [6], 6, 12, 4)

"""Every loop gives what one prompt alone gives, on every kind of cache, whatever the rows beside it."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from data_prep.errors import DataError
from eval.decoding import engine
from eval.decoding.caches import RoomyLayer
from eval.decoding.choose import Request
from eval.decoding.config import (
    BeamDecoding,
    ContrastiveDecoding,
    DecodingConfig,
    GreedyDecoding,
    SampleDecoding,
)
from eval.decoding.engine import answers, log_probabilities
from eval.decoding.prompts import common_start
from eval.decoding.slots import fits_slots
from tests.models.families import model as theirs
from tests.models.tiny import KINDS, decoder, ids

OWN = {f"own-{name}": name for name in KINDS}
THEIRS = ["llama", "gpt2", "mistral", "gemma2", "gemma3", "qwen2", "phi", "deepseek_v3", "llama4", "mixtral"]
SAMPLED = SampleDecoding(temperature=1.3, top_k=30, seed=5)
WINDOWED = {
    *("own-sliding", "own-interleaved", "own-chunked", "own-alibi-sliding"),
    *("mistral", "mixtral", "qwen2", "gemma2", "gemma3", "llama4"),
}
STOPS = frozenset({9, 17})


def made(name: str) -> Any:
    return decoder(**KINDS[OWN[name]]) if name in OWN else theirs(name).eval()


def requests(count: int = 9) -> list[Request]:
    """Prompts of 2 to 11 tokens, answers of 1 to 14: some longer than a window of 5 or 7."""
    return [Request(f"r{n}", ids(1, 2 + 7 * n % 10, seed=n)[0].tolist(), 1 + 5 * n % 14) for n in range(count)]


def run(
    model: Any, size: int, decoding: DecodingConfig | None = None, stops: frozenset[int] = STOPS, count: int = 9
) -> dict[str, list[int]]:
    rows = answers(model, requests(count), decoding or GreedyDecoding(), stops, 0, size)
    return {row.request.id: row.tokens for row in rows}


@torch.inference_mode()
def greedy(model: Any, request: Request) -> list[int]:
    """One prompt alone, no cache, a full pass for each token."""
    tokens: list[int] = []
    while len(tokens) < request.new_tokens and not (tokens and tokens[-1] in STOPS):
        logits = model(torch.tensor([[*request.prompt, *tokens]]), use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens


@pytest.mark.parametrize("name", [*OWN, *THEIRS])
def test_rows_that_come_and_go_are_answered_as_if_alone(name: str) -> None:
    model = made(name)
    assert fits_slots(model)
    expected = {request.id: greedy(model, request) for request in requests()}
    assert len({len(tokens) for tokens in expected.values()}) > 3
    assert run(model, 3) == expected
    assert run(model, 4) == expected


def test_no_pass_is_spent_on_finished_rows() -> None:
    model, passes = made("llama"), []
    model.register_forward_pre_hook(lambda _, given: passes.append(given[0].shape))
    found = run(model, 3, stops=frozenset())
    steps = [shape for shape in passes if shape[1] == 1]
    read = sum(shape[0] for shape in passes if shape[1] > 1)
    assert read == len(found) == 9
    assert sum(shape[0] for shape in steps) == sum(len(tokens) - 1 for tokens in found.values())
    assert {shape[0] for shape in steps[:-13]} == {3}  # full until nobody waits


@pytest.mark.parametrize("name", [*OWN, *THEIRS])
def test_a_start_that_all_prompts_share_is_read_once(name: str) -> None:
    model, read = made(name), []
    start = ids(1, 12, seed=99)[0].tolist()
    asked = [request._replace(prompt=[*start, *request.prompt]) for request in requests()]
    expected = {request.id: greedy(model, request) for request in asked}
    model.register_forward_pre_hook(lambda _, given: read.append(given[0].shape))
    assert {row.request.id: row.tokens for row in answers(model, asked, GreedyDecoding(), STOPS, 0, 4)} == expected
    shared = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    assert shared == (name not in WINDOWED)
    assert max(width for _, width in read[1:]) == max(len(request.prompt) for request in asked) - 12 * shared


@given(st.lists(st.tuples(st.integers(1, 80), st.booleans()), min_size=1, max_size=8))
def test_a_roomy_layer_holds_what_a_plain_one_holds(steps: list[tuple[int, bool]]) -> None:
    roomy: Any = RoomyLayer()
    plain: Any = DynamicLayer()
    for tokens, leaves in steps:
        keys, values = torch.rand(2, 3, tokens, 4), torch.rand(2, 3, tokens, 5)
        for mine, other in zip(roomy.update(keys, values), plain.update(keys, values), strict=True):
            assert torch.equal(mine, other)
        if leaves:  # as rows that come and go do
            for layer in (roomy, plain):
                layer.keys, layer.values = layer.keys.flip(0), layer.values.flip(0)


def test_a_roomy_layer_moves_states_once_in_many_tokens() -> None:
    layer, places = RoomyLayer(), set()
    for _ in range(200):
        keys, _ = layer.update(torch.rand(1, 2, 1, 4), torch.rand(1, 2, 1, 4))
        places.add(keys.data_ptr())
    assert len(places) <= 5


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_common_start_leaves_each_prompt_a_token(prompts: list[list[int]]) -> None:
    start = common_start(prompts)
    assert all(prompt[: len(start)] == start and len(prompt) > len(start) for prompt in prompts)
    longer = [prompt[: len(start) + 1] for prompt in prompts]
    assert any(len(prompt) == len(start) + 1 for prompt in prompts) or len(set(map(tuple, longer))) > 1


@pytest.mark.parametrize("decoding", [GreedyDecoding(), SAMPLED], ids=["greedy", "sample"])
@pytest.mark.parametrize("name", ["own-latent", "gpt2"])
def test_whole_batches_give_the_same(name: str, decoding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(name)
    expected = run(model, 3, decoding)
    monkeypatch.setattr(engine, "fits_slots", lambda _: False)
    monkeypatch.setattr(engine, "answer_in_slots", lambda *_: pytest.fail("not in slots"))
    assert run(model, 4, decoding) == expected


def test_recurrent_states_go_through_whole_batches() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2, initializer_range=0.5)
    model = MambaForCausalLM(config).eval()
    assert not fits_slots(model)
    assert run(model, 1) == {request.id: greedy(model, request) for request in requests()}


def test_a_sample_does_not_depend_on_what_it_is_batched_with() -> None:
    model = made("llama")
    alone = {}
    for request in requests():
        [row] = answers(model, [request], SAMPLED, STOPS, 0, 1)
        alone[request.id] = row.tokens
    assert run(model, 3, SAMPLED) == run(model, 9, SAMPLED) == alone != run(model, 3)
    assert run(model, 3, SAMPLED.model_copy(update={"seed": 6})) != alone
    numbered = [Request("r0", [5, 6], 12, number) for number in range(4)]
    assert len({tuple(row.tokens) for row in answers(model, numbered, SAMPLED, STOPS, 0, 4)}) == 4


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_search_is_that_of_transformers(beams: int) -> None:
    model = made("llama")
    asked = [request._replace(new_tokens=14) for request in requests()]
    rows = answers(model, asked, BeamDecoding(beams=beams, length_penalty=0.8), STOPS, 0, 3)
    found = {row.request.id: row.tokens for row in rows}
    for request in asked:
        out = model.generate(
            torch.tensor([request.prompt]), num_beams=beams, length_penalty=0.8, early_stopping=True, do_sample=False,
            max_new_tokens=14, eos_token_id=sorted(STOPS), pad_token_id=0,
        )  # fmt: skip
        expected = out[0, len(request.prompt) :].tolist()
        ends = [place for place, token in enumerate(expected) if token in STOPS]
        assert found[request.id] == expected[: ends[0] + 1 if ends else None], request.id


@pytest.mark.parametrize(
    "decoding", [GreedyDecoding(), SAMPLED, ContrastiveDecoding(candidates=3), BeamDecoding(beams=3)],
    ids=lambda each: each.kind,
)  # fmt: skip
@pytest.mark.parametrize("name", ["own-sliding", "gpt2"])
@torch.no_grad()
def test_log_probabilities_are_those_of_transformers(name: str, decoding: Any) -> None:
    model = made(name)
    for row in answers(model, requests(5), decoding, STOPS, 0, 3):
        logits = model(torch.tensor([[*row.request.prompt, *row.tokens]])).logits[0].double()
        start = len(row.request.prompt) - 1
        expected = [float(logits[start + n].log_softmax(-1)[token]) for n, token in enumerate(row.tokens)]
        assert log_probabilities(model, row) == pytest.approx(expected, abs=1e-5)


def test_log_probabilities_equal_generates_transition_scores() -> None:
    model = made("llama")
    for row in answers(model, requests(5), GreedyDecoding(), STOPS, 0, 3):
        out = model.generate(
            torch.tensor([row.request.prompt]), do_sample=False, max_new_tokens=row.request.new_tokens,
            eos_token_id=sorted(STOPS), pad_token_id=0, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        expected = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)[0]
        assert log_probabilities(model, row) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "decoding", [GreedyDecoding(), SAMPLED, ContrastiveDecoding(), BeamDecoding()], ids=lambda each: each.kind
)
def test_nan_is_named(decoding: Any) -> None:
    model = made("llama")
    first = [request for request in requests() if request.new_tokens > 3][0]

    def spoil(_: Any, given: Any, out: Any) -> Any:
        out.logits[0, -1, 4] = float("nan")
        return out

    model.register_forward_hook(spoil)
    message = f"row {first.id}: the model's logits are not finite at new token 1; check the weights, or evaluate in"
    with pytest.raises(DataError, match=message):
        list(answers(model, [first, *requests(2)], decoding, STOPS, 0, 2))


def test_what_was_unfinished_when_memory_ran_out_is_answered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, expected = made("llama"), run(made("llama"), 3)
    sizes = []

    def small(given: Any, asked: list[Request], *rest: Any) -> Any:
        sizes.append(rest[-1])
        rows = original(given, asked, *rest)
        yield next(rows)
        if rest[-1] > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
        yield from rows

    original = engine.answer_in_slots
    monkeypatch.setattr(engine, "answer_in_slots", small)
    assert run(model, 8) == expected
    assert sizes == [8, 4, 2, 1]


def test_a_row_that_needs_too_much_memory_alone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(engine, "answer_in_slots", never)
    with pytest.raises(torch.OutOfMemoryError):
        run(made("llama"), 8)

"""vLLM behind the same interface, against a stand-in with its names: no vLLM runs on this machine."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import DataError
from eval.config import GenerationConfig
from eval.decoding.config import BeamDecoding, ContrastiveDecoding, SampleDecoding
from eval.generation import generate, generation_policy
from eval.loading import load_model
from eval.samples import Sample

SAMPLES = [Sample("a", "river", "mill"), Sample("b", "old mill", "mill")]


class Stub(ModuleType):
    """Answers each prompt with its first token, and then a stop or another one."""

    def __init__(self) -> None:
        super().__init__("vllm")
        self.asked: list[Any] = []
        self.SamplingParams = SimpleNamespace
        self.LLM = self._load

    def _load(self, model: str, **settings: Any) -> Any:
        self.settings = settings
        self.loaded = load_model(Path(model))
        return SimpleNamespace(generate=self._generate)

    def _generate(self, prompts: list[dict[str, list[int]]], asked: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked = asked
        return [self._answer(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, asked, strict=True)]

    def _answer(self, prompt: list[int], asked: Any) -> Any:
        tokens = (prompt[0], asked.stop_token_ids[0]) if len(prompt) < 4 else (prompt[0], prompt[1], prompt[2])
        told = [{token: SimpleNamespace(logprob=-0.5 * n)} for n, token in enumerate(tokens)]
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tokens, logprobs=told if asked.logprobs == 0 else None)]
        )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub()
    monkeypatch.setitem(sys.modules, "vllm", made)
    return made


def config(**more: Any) -> GenerationConfig:
    return GenerationConfig(engine="vllm", max_new_tokens=3, **more)


def test_answers_come_back_as_from_the_other_engine(model: Any, tokenizer: Any, stub: Stub, tmp_path: Path) -> None:
    rows = generate(model, tokenizer, SAMPLES, config(log_probabilities=True), "plain", tmp_path / "a")
    lengths = [len(tokenizer.encode(sample.prompt)) for sample in SAMPLES]
    assert [row["finish_reason"] for row in rows] == ["stop" if length < 4 else "length" for length in lengths]
    for row, sample in zip(rows, SAMPLES, strict=True):
        assert row["token_ids"][0] == tokenizer.encode(sample.prompt)[0]
        assert row["log_probabilities"] == [-0.5 * n for n in range(len(row["token_ids"]))]
    assert stub.settings["dtype"] == "float32" and stub.settings["logprobs_mode"] == "raw_logprobs"
    for name, weight in model.state_dict().items():
        assert weight.equal(stub.loaded[0].state_dict()[name]), name
    assert {(each.temperature, each.max_tokens, each.ignore_eos) for each in stub.asked} == {(0.0, 3, True)}
    assert generation_policy(model, config()).endswith("float32, by vLLM")


def test_sampling_settings_and_seeds_are_handed_over(model: Any, tokenizer: Any, stub: Stub, tmp_path: Path) -> None:
    decoding = SampleDecoding(temperature=0.7, top_p=0.9, seed=3)
    rows = generate(model, tokenizer, SAMPLES, config(decoding=decoding), "plain", tmp_path / "a")
    assert {(each.temperature, each.top_p, each.top_k, each.min_p) for each in stub.asked} == {(0.7, 0.9, 0, 0.0)}
    assert len({each.seed for each in stub.asked}) == 2 and "log_probabilities" not in rows[0]


def test_without_vllm_the_error_says_what_to_do(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    message = r"generation.engine=vllm: vllm is not installed; pip install 'provetune\[gpu\]', or engine=transformers"
    with pytest.raises(DataError, match=message):
        generate(model, tokenizer, SAMPLES, config(), "plain", tmp_path / "a")


@pytest.mark.parametrize("decoding", [BeamDecoding(), ContrastiveDecoding()])
def test_what_it_cannot_do_is_refused(decoding: Any) -> None:
    with pytest.raises(ValidationError, match=f"engine=vllm has no {decoding.kind} search; take engine=transformers"):
        config(decoding=decoding)

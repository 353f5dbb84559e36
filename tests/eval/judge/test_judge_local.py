"""A judge that runs here: its labels' probabilities are a distribution, and do not depend on what shares a batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig, LocalJudge
from eval.judge.local import LocalBackend, label_ids, label_log_probabilities
from eval.judge.prompts import PAIR_LABELS, Question, labels_of
from eval.judge.run import judge
from eval.measures.log_likelihood import Window, window_nlls
from tests.eval.conftest import tiny_model
from tests.eval.judge.conftest import QUICK, anyone, rows

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16, 17], [20, 21], [5, 6, 8]]


def wide(tokenizer: Any, seed: int = 0, context: int = 4096) -> Any:
    """The tiny model with room for a judge's prompt."""
    model = tiny_model(seed, len(tokenizer))
    model.config.max_position_embeddings = context
    return model


def test_log_probabilities_equal_the_scoring_path_of_all_measures(model: Any) -> None:
    labels = [[30], [31, 32], [33, 34, 35]]
    found = label_log_probabilities(model, PROMPTS, labels)
    for prompt, row in zip(PROMPTS, found, strict=True):
        windows = [Window([*prompt, *label[:-1]], label) for label in labels]
        assert row == pytest.approx([-nll for nll in window_nlls(model, windows, 1)], abs=1e-5)


def test_over_all_labels_of_a_length_the_probabilities_sum_to_one(model: Any) -> None:
    """All one-token labels; and one label's continuations share out exactly its own probability."""
    vocabulary = model.config.vocab_size
    ones = label_log_probabilities(model, PROMPTS, [[token] for token in range(vocabulary)])
    assert [math.fsum(map(math.exp, row)) for row in ones] == pytest.approx([1.0] * len(PROMPTS), abs=1e-5)
    twos = label_log_probabilities(model, PROMPTS[:2], [[40, token] for token in range(vocabulary)])
    for row, one in zip(twos, ones, strict=False):
        assert math.fsum(map(math.exp, row)) == pytest.approx(math.exp(one[40]), rel=1e-5)


def test_a_batch_does_not_change_a_verdict(model: Any) -> None:
    labels = [[30], [31, 32], [33]]
    together = label_log_probabilities(model, PROMPTS, labels)
    alone = [label_log_probabilities(model, [prompt], labels)[0] for prompt in PROMPTS]
    turned = label_log_probabilities(model, PROMPTS[::-1], labels)[::-1]
    for one, other, third in zip(together, alone, turned, strict=True):
        assert one == pytest.approx(other, abs=1e-5) and one == pytest.approx(third, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_reply_is_a_distribution_over_the_labels(tokenizer: Any, batch_size: int) -> None:
    model = wide(tokenizer)
    questions = [Question("old mill", "river " * n, "fox", None) for n in range(1, 5)]
    backend = LocalBackend(LocalJudge(model="tiny", batch_size=batch_size), (model, tokenizer))
    replies = dict(backend.ask(anyone(), questions))
    assert sorted(replies) == [0, 1, 2, 3]
    one_by_one = [dict(backend.ask(anyone(), [question]))[0] for question in questions]
    for index, reply in replies.items():
        assert reply.probabilities is not None and list(reply.probabilities) == list(PAIR_LABELS)
        assert math.fsum(reply.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
        assert reply.label == max(reply.probabilities, key=reply.probabilities.__getitem__)
        assert reply.probabilities == pytest.approx(one_by_one[index].probabilities, abs=1e-5)


def test_a_label_that_begins_another_ends_with_the_end(tokenizer: Any) -> None:
    points = label_ids(tokenizer, labels_of(anyone(kind="pointwise", scale=10)))
    assert all(label[-1] == tokenizer.eos_token_id for label in points)
    pair = label_ids(tokenizer, PAIR_LABELS)
    assert all(tokenizer.eos_token_id not in label for label in pair)
    with pytest.raises(DataError, match="judge labels A, A: this tokenizer cannot tell them apart"):
        label_ids(tokenizer, ("A", "A"))


def test_a_prompt_beyond_the_context_is_a_failure_and_not_cut(tokenizer: Any) -> None:
    backend = LocalBackend(LocalJudge(model="tiny"), (wide(tokenizer, context=900), tokenizer))
    questions = [Question("q", "x " * 2000, "b", None), Question("q", "a", "b", None)]
    config = anyone(rubric="Good is good.")
    found = dict(backend.ask(config, questions))
    assert (found[0].failure or "").endswith("the judge's context has 896") and "prompt of " in (found[0].failure or "")
    assert found[1].failure is None or "prompt of" in found[1].failure


def test_logits_that_are_no_numbers_are_a_failure(tokenizer: Any) -> None:
    model = wide(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    backend = LocalBackend(LocalJudge(model="tiny"), (model, tokenizer))
    [(_, reply)] = backend.ask(anyone(), [Question("q", "a", "b", None)])
    assert reply.failure == "the judge's logits are not finite numbers"


def test_a_judge_that_writes(tokenizer: Any) -> None:
    """A random model writes nonsense: every reply is a failure with a reason, the same alone and in a batch."""
    judged = LocalJudge(model="tiny", method="generate", max_new_tokens=8, batch_size=2)
    backend = LocalBackend(judged, (wide(tokenizer), tokenizer))
    questions = [Question("old mill", "river " * n, "fox", None) for n in range(1, 4)]
    replies = dict(backend.ask(anyone(), questions))
    assert len(replies) == 3 and all((reply.label is None) != (reply.failure is None) for reply in replies.values())


def test_a_folder_is_judged_by_its_files(tokenizer: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place, seed in ((first, 0), (second, 1)):
        wide(tokenizer, seed).save_pretrained(place)
        tokenizer.save_pretrained(place)
    identities = [LocalBackend(LocalJudge(model=str(place))).identity for place in (first, second)]
    assert identities[0] != identities[1]
    assert LocalBackend(LocalJudge(model=str(first), batch_size=1)).identity == identities[0]
    assert LocalBackend(LocalJudge(model=str(first), dtype="bfloat16")).identity != identities[0]
    config = JudgeConfig(judges=[LocalJudge(model=str(first))])
    found = judge(config, rows(["old", "mill", "fox"]), rows(["river", "dog", "lazy"]), tmp_path / "out", QUICK)
    assert found["metrics"]["parse_failures"] == 0 and 0 < found["metrics"]["win_rate"] < 1
    assert found["judges"][0]["weights"] == identities[0]["weights"]


def test_a_judge_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="judge nobody/nothing: neither a folder nor to be had from the Hub"):
        LocalBackend(LocalJudge(model="nobody/nothing")).identity  # noqa: B018
    with pytest.raises(DataError, match="holds no weights; name a folder that save_pretrained wrote"):
        LocalBackend(LocalJudge(model=str(tmp_path))).identity  # noqa: B018

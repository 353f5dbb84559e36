"""Greedy answers: equal to a plain greedy loop, resumable byte for byte, and free of the model's own defaults."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.commands.cli import UsageError
from data_prep.errors import DataError
from eval.commands.decoding import with_named_decoding
from eval.config import GenerationConfig
from eval.decoding import engine
from eval.decoding.choose import Request, Row
from eval.decoding.config import ContrastiveDecoding, SampleDecoding
from eval.decoding.slots import Slots
from eval.generation import generate, generation_key, generation_policy, stop_tokens
from eval.samples import Sample

CONFIG = GenerationConfig(max_new_tokens=6, batch_size=3)
SAMPLES = [Sample(f"row{n}", "river mill"[: 2 + n] + "z" * (n % 4), "the old mill") for n in range(8)]


def greedy(model: Any, tokenizer: Any, prompt: str, limit: int, stops: list[int]) -> tuple[list[int], str]:
    """One prompt alone, one full forward pass for each token."""
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    start, reason = len(ids), "length"
    with torch.inference_mode():
        while len(ids) - start < limit:
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if token in stops:
                reason = "stop"
                break
            ids.append(token)
    return ids[start:], reason


def run(model: Any, tokenizer: Any, path: Path, samples: list[Sample] = SAMPLES) -> list[dict[str, Any]]:
    return generate(model, tokenizer, samples, CONFIG, "plain", path)


def test_batched_answers_equal_single_ones(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    # The third token of one answer becomes a stop token, so that both reasons occur.
    third = greedy(model, tokenizer, SAMPLES[2].prompt or "", 3, [])[0][-1]
    model.generation_config.eos_token_id = [0, third]
    stops = stop_tokens(model, tokenizer, "plain")
    try:
        rows = run(model, tokenizer, tmp_path / "a")
    finally:
        model.generation_config.eos_token_id = 0
    for sample, row in zip(SAMPLES, rows, strict=True):
        ids, reason = greedy(model, tokenizer, sample.prompt or "", 6, stops)
        assert row["output"] == tokenizer.decode(ids, skip_special_tokens=True)
        assert (row["tokens"], row["finish_reason"]) == (len(ids), reason)
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    assert [row["id"] for row in rows] == [sample.id for sample in SAMPLES]
    assert rows[0]["prompt"] == "ri" and rows[0]["reference"] == "the old mill"


def test_the_models_own_defaults_have_no_say_and_nothing_warns(
    model: Any, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = run(model, tokenizer, tmp_path / "a")
    own = model.generation_config
    model.generation_config = type(own)(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, no_repeat_ngram_size=1, forced_eos_token_id=7,
        suppress_tokens=list(range(100, 200)), eos_token_id=0, bos_token_id=1, max_length=4,
    )  # fmt: skip
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run(model, tokenizer, tmp_path / "b") == plain
        assert model.generation_config.temperature == 5.0
    finally:
        model.generation_config = own
        logger.removeHandler(caplog.handler)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("keep", "left"),
    [("torn line", 5), ("some rows", 3), ("only the key", 8), ("another key", 8), ("a long tail", 5), ("all", 0)],
)
def test_a_killed_run_goes_on_and_ends_the_same(
    model: Any, tokenizer: Any, tmp_path: Path, keep: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    rows = run(model, tokenizer, whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    kept = {
        "torn line": b"".join(lines[:5])[:-9],
        "some rows": b"".join(lines[:6]),
        "only the key": lines[0],
        "a long tail": b"".join(lines[:4]) + b"x" * 100_000,
        "another key": b'{"key": "other"}\n' + b"".join(lines[1:]),
        "all": b"".join(lines),
    }[keep]
    killed = tmp_path / "killed"
    killed.write_bytes(kept)
    asked: list[str] = []
    original = engine.answer_in_slots

    def counted(model: Any, requests: list[Request], *given: Any) -> Iterator[Row]:
        asked.extend(request.id for request in requests)
        return original(model, requests, *given)

    monkeypatch.setattr(engine, "answer_in_slots", counted)
    assert run(model, tokenizer, killed) == rows
    assert sorted(killed.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())
    assert len(asked) == left


def test_memory_that_runs_out_halves_the_batch(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model, tokenizer, tmp_path / "a")
    sizes: list[int] = []
    original = Slots.step

    def small(slots: Slots) -> list[Row]:
        sizes.append(len(slots.rows))
        if len(slots.rows) > 1:
            raise torch.OutOfMemoryError("no memory")
        return original(slots)

    monkeypatch.setattr(Slots, "step", small)
    assert run(model, tokenizer, tmp_path / "b") == expected
    assert sizes[:3] == [3, 2, 1] and set(sizes[3:]) == {1}


def test_other_errors_are_not_taken_for_missing_memory(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> list[Row]:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Slots, "step", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(model, tokenizer, tmp_path / "a")


def test_prompts_without_room_or_text_are_refused_before_anything_runs(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    message = r"row long: a prompt of 27 tokens and 6 new ones exceed the model's context of 32; shorten the rows"
    with pytest.raises(DataError, match=message):
        run(model, tokenizer, tmp_path / "a", [SAMPLES[0], Sample("long", "z" * 27, "a")])
    with pytest.raises(DataError, match="row none: has no prompt to answer"):
        run(model, tokenizer, tmp_path / "a", [Sample("none", None, "a")])
    assert not (tmp_path / "a").exists()
    assert len(run(model, tokenizer, tmp_path / "a", [Sample("fits", "z" * 26, "a")])) == 1


def test_stop_tokens_and_policy(model: Any, tokenizer: Any) -> None:
    end_of_text, end_of_turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert stop_tokens(model, tokenizer, "chat") == [end_of_text, end_of_turn]
    assert stop_tokens(model, tokenizer, "plain") == [end_of_text]
    expected = "greedy, at most 6 new tokens, stops at end of text or turn, prompt never cut, float32"
    assert generation_policy(model, CONFIG) == expected


def test_log_probabilities_and_tokens_are_kept_where_asked_for(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    asked = CONFIG.model_copy(update={"log_probabilities": True})
    plain = run(model, tokenizer, tmp_path / "a")
    for row, other in zip(generate(model, tokenizer, SAMPLES, asked, "plain", tmp_path / "b"), plain, strict=True):
        assert {**other, "token_ids": row["token_ids"], "log_probabilities": row["log_probabilities"]} == row
        prompt = tokenizer.encode(row["prompt"], add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + row["token_ids"]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(row["token_ids"])), row["token_ids"]]
        assert row["log_probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert len(row["token_ids"]) == row["tokens"] + (row["finish_reason"] == "stop")
    assert "log_probabilities" not in plain[0]


def test_an_empty_answer_is_an_answer(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    first = greedy(model, tokenizer, SAMPLES[0].prompt or "", 1, [])[0][0]
    model.generation_config.eos_token_id = [0, first]
    try:
        row = run(model, tokenizer, tmp_path / "a")[0]
    finally:
        model.generation_config.eos_token_id = 0
    assert (row["output"], row["finish_reason"], row["tokens"]) == ("", "stop", 0)


def test_decoding_belongs_to_the_key(model: Any, tokenizer: Any) -> None:
    def key(**changes: Any) -> str:
        return generation_key(model, tokenizer, SAMPLES, CONFIG.model_copy(update=changes), "plain")

    sampled = [SampleDecoding(), SampleDecoding(seed=1), SampleDecoding(top_p=0.9), ContrastiveDecoding()]
    keys = [key(), key(log_probabilities=True), key(engine="vllm"), *(key(decoding=each) for each in sampled)]
    assert len(set(keys)) == len(keys)


def test_a_named_decoding_on_the_command_line() -> None:
    found = with_named_decoding({"model": "m", "generation": {"decoding": "min_p", "batch_size": 2}})
    assert found["generation"] == {"decoding": {"kind": "sample", "min_p": 0.1}, "batch_size": 2}
    own = {"generation": {"decoding": {"kind": "greedy"}}}
    assert with_named_decoding(own) == own and with_named_decoding({"generation": None}) == {"generation": None}
    with pytest.raises(UsageError, match="generation.decoding: topp: unknown; did you mean top_p"):
        with_named_decoding({"generation": {"decoding": "topp"}})

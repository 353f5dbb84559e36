"""One model over one data set: what lands in the predictions folder, and that nothing is computed twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from eval import generation
from eval.config import GenerationConfig, PerplexityConfig
from eval.measures import perplexity as likelihood
from eval.predict import predict
from eval.predictions import read_policies, read_predictions
from eval.samples import Sample, choose, samples_of, template_sha256

SCORING, ANSWERING = PerplexityConfig(batch_size=2), GenerationConfig(max_new_tokens=4, batch_size=4, max_rows=5)


def test_a_prompt_data_set(model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    numbers = predict(model, tokenizer, rows_folder, "tiny", out, SCORING, ANSWERING, "plain")
    assert sorted(path.name for path in out.iterdir()) == [
        "policies.json", "tiny.generation.jsonl", "tiny.perplexity.jsonl",
    ]  # fmt: skip
    scored, answered = read_predictions(out, "tiny", "perplexity"), read_predictions(out, "tiny", "generation")
    rows = [json.loads(line) for line in (rows_folder / "test.jsonl").read_text().splitlines()]
    chosen = choose(rows, None)
    assert [row["id"] for row in scored] == [row["id"] for row in chosen]
    assert [row["id"] for row in answered] == [row["id"] for row in chosen[:5]]
    assert answered[0]["reference"] == chosen[0]["completion"]
    direct = likelihood.conditional(model, tokenizer, samples_of(tokenizer, chosen, "plain"))
    assert [row["nll"] for row in scored] == pytest.approx([row["nll"] for row in direct], rel=1e-5)
    assert numbers["perplexity_rows"] == 12 and numbers["generation_rows"] == 5
    assert numbers["generation_tokens"] == sum(row["tokens"] for row in answered)
    assert numbers["perplexity_tokens_per_second"] > 0
    policy = read_policies(out)["tiny"]
    assert policy["template_sha256"] == template_sha256(tokenizer, "plain") != template_sha256(tokenizer, "chat")
    assert policy["perplexity"] == likelihood.conditional_policy(model, tokenizer)
    assert {"generation", "rouge", "bleu", "chrf", "stop", "keys"} < policy.keys()


def test_a_text_data_set_is_scored_whole_and_not_answered(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"id": f"{n}", "source": "t", "text": "river mill " * (1 + 3 * n)} for n in range(4)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    predict(model, tokenizer, folder, "t", out, PerplexityConfig(stride=8, max_rows=3), ANSWERING)
    assert not (out / "t.generation.jsonl").exists()
    assert [row["id"] for row in read_predictions(out, "t", "perplexity")] == [row["id"] for row in choose(rows, 3)]
    assert read_policies(out)["t"]["perplexity"] == likelihood.rolling_policy(model, tokenizer, 8)


def test_finished_predictions_are_read_and_other_models_are_not_served_them(
    model: Any, other_model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(model: Any) -> dict[str, float]:
        return predict(model, tokenizer, rows_folder, "tiny", tmp_path / "out", SCORING, ANSWERING)

    go(model)
    before = (
        (tmp_path / "out/tiny.generation.jsonl").read_bytes(),
        (tmp_path / "out/tiny.perplexity.jsonl").read_bytes(),
    )
    with monkeypatch.context() as patch:
        for module, name in ((likelihood, "score_batch"), (generation, "answers")):
            patch.setattr(module, name, lambda *_: pytest.fail("computed again"))
        assert "generation_tokens_per_second" not in go(model)
    go(other_model)
    after = (tmp_path / "out/tiny.generation.jsonl").read_bytes(), (tmp_path / "out/tiny.perplexity.jsonl").read_bytes()
    assert before[0] != after[0] and before[1] != after[1]


def test_scoring_killed_between_batches_goes_on(
    model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(out: str) -> bytes:
        predict(model, tokenizer, rows_folder, "tiny", tmp_path / out, SCORING, None)
        return (tmp_path / out / "tiny.perplexity.jsonl").read_bytes()

    undisturbed, calls, original = go("a"), [], likelihood.score_batch

    def dies_at_the_third(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(likelihood, "score_batch", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        go("b")
    assert not (tmp_path / "b/tiny.perplexity.jsonl").exists()
    assert go("b") == undisturbed
    assert len(calls) == 3 + 4  # six batches, two of them kept


def test_the_choice_of_rows_does_not_depend_on_their_order() -> None:
    rows = [{"id": f"{n}"} for n in range(40)]
    chosen = choose(rows, 7)
    assert choose(rows[::-1], 7) == chosen
    assert chosen != rows[:7]
    assert choose(rows[:30], 7) == [row for row in choose(rows, None) if int(row["id"]) < 30][:7]


def test_chat_rows_are_measured_on_the_last_answer(tokenizer: Any) -> None:
    turns = [("user", "river?"), ("assistant", "no"), ("user", "mill?"), ("assistant", " the mill ")]
    row = {"id": "a", "messages": [{"role": role, "content": content} for role, content in turns]}
    prompt = (
        "<|im_start|>user\nriver?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n"
        "<|im_start|>user\nmill?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert samples_of(tokenizer, [row]) == [Sample("a", prompt, " the mill ")]


def test_an_answer_is_trimmed_where_the_template_trims(tokenizer: Any) -> None:
    import copy

    trimming = copy.deepcopy(tokenizer)
    trimming.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'] | trim")
    row = {"id": "a", "prompt": "river?", "completion": " the mill\n"}
    assert samples_of(trimming, [row])[0].text == "the mill"
    assert samples_of(tokenizer, [row])[0].text == " the mill\n"


def test_rows_that_cannot_be_measured_are_refused(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="t: no test rows in .*; raise data.t.splits.test or give it role: eval"):
        predict(model, tokenizer, tmp_path, "t", tmp_path / "out", SCORING, None)
    with pytest.raises(DataError, match="text rows and rows with a prompt are mixed"):
        samples_of(tokenizer, [{"id": "a", "text": "x"}, {"id": "b", "prompt": "x", "completion": "y"}])
    with pytest.raises(DataError, match="row a: has no assistant turn to measure"):
        samples_of(tokenizer, [{"id": "a", "messages": [{"role": "user", "content": "x"}]}])

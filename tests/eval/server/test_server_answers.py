"""Answers through an OpenAI-compatible server: those of the local engine, each prompt once, and every fault named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from eval.commands.config import EvalConfig
from eval.commands.measure import measure
from eval.config import GenerationConfig
from eval.decoding.config import SampleDecoding
from eval.generation import generate, served_by, stop_tokens
from eval.predict import predict
from eval.predictions import read_policies, read_predictions
from eval.samples import Sample
from eval.shares import Share, taking
from tests.eval.judge.conftest import Answer, Stub

pytestmark = pytest.mark.end_to_end

SAMPLES = [Sample(f"row{n}", "river mill"[: 2 + n] + "z" * (n % 4), "the old mill") for n in range(8)]


def config(stub: Stub, **more: Any) -> GenerationConfig:
    server = {"base_url": stub.url, "served": {"base": "org/base"}, "retries": 2, "timeout_seconds": 5.0}
    server |= more.pop("server", {})
    settings: dict[str, Any] = {"engine": "server", "max_new_tokens": 6, "server": server, **more}
    return GenerationConfig.model_validate(settings).of_model("base")


class Served:
    """The stub's default: a model that answers greedily, one prompt after the other, as a server would."""

    def __init__(self, model: Any, tokenizer: Any, bos: bool = False):
        self.model, self.tokenizer, self.bos = model, tokenizer, bos

    def __call__(self, body: dict[str, Any]) -> Answer:
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt, add_special_tokens=False)
        ids, given = [self.tokenizer.bos_token_id] * self.bos + list(ids), list[int]()
        logs, reason = list[float](), "length"
        while len(given) < body["max_tokens"]:
            with torch.inference_mode():
                logits = self.model(torch.tensor([[*ids, *given]])).logits[0, -1].float().log_softmax(-1)
            token = int(logits.argmax())
            given.append(token)
            logs.append(float(logits[token]))
            if token in (body.get("stop_token_ids") or [0]):
                reason = "stop"
                break
        text = self.tokenizer.decode(given[:-1] if reason == "stop" else given, skip_special_tokens=True)
        told = {"tokens": [f"token_id:{token}" for token in given], "token_logprobs": logs}
        told |= {} if body.get("return_tokens_as_token_ids") else {"tokens": [self.tokenizer.decode(t) for t in given]}
        choice = {"index": 0, "text": text, "finish_reason": reason}
        choice |= {"logprobs": told} if body.get("logprobs") else {}
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(given)}
        return Answer(body={"object": "text_completion", "model": body["model"], "choices": [choice], "usage": usage})


def run(model: Any, tokenizer: Any, path: Path, settings: GenerationConfig, samples: Any = SAMPLES) -> Any:
    return generate(model, tokenizer, samples, settings, "plain", path)


@pytest.mark.parametrize("prompts", ["text", "tokens"])
def test_answers_are_those_of_the_local_engine(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
    prompts: str,
) -> None:
    stub.default = Served(model, tokenizer)
    # The third token of one answer becomes a stop token, so that both reasons occur.
    local = run(model, tokenizer, tmp_path / "a", GenerationConfig(max_new_tokens=6, log_probabilities=True))
    model.generation_config.eos_token_id = [0, local[2]["token_ids"][2]]
    asked = config(stub, server={"prompts": prompts, "knows": ["stop_token_ids", "token_ids"]}, log_probabilities=True)
    try:
        local = run(model, tokenizer, tmp_path / "b", GenerationConfig(max_new_tokens=6, log_probabilities=True))
        served = run(model, tokenizer, tmp_path / "c", asked)
    finally:
        model.generation_config.eos_token_id = 0
    assert {row["finish_reason"] for row in local} == {"stop", "length"}
    for one, other in zip(served, local, strict=True):
        assert {**one, "log_probabilities": None} == {**other, "log_probabilities": None}
        assert one["log_probabilities"] == pytest.approx(other["log_probabilities"], abs=1e-4)
    assert len(stub.requests) == 8 and {request["model"] for request in stub.requests} == {"org/base"}
    assert {request["temperature"] for request in stub.requests} == {0.0}
    assert {type(request["prompt"]) for request in stub.requests} == {str if prompts == "text" else list}


def test_an_answer_ends_at_a_stop_token_that_the_server_shows(
    stub: Stub, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    choice = {"text": "the mill<|endoftext|> and more", "finish_reason": "length"}
    stub.default = lambda _: Answer(body={"choices": [choice]})
    [row] = run(model, tokenizer, tmp_path / "a", config(stub), SAMPLES[:1])
    assert (row["output"], row["finish_reason"]) == ("the mill", "stop")
    assert row["tokens"] == len(tokenizer.encode("the mill"))


def test_sampling_settings_are_mapped(stub: Stub, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    stub.default = Served(model, tokenizer)
    decoding = SampleDecoding(temperature=0.7, top_p=0.9, top_k=20, seed=3)
    run(model, tokenizer, tmp_path / "a", config(stub, decoding=decoding, server={"knows": ["top_k"]}))
    sent = {(one["temperature"], one["top_p"], one["top_k"], one["max_tokens"]) for one in stub.requests}
    assert sent == {(0.7, 0.9, 20, 6)} and "min_p" not in stub.requests[0] and "logprobs" not in stub.requests[0]
    assert len({one["seed"] for one in stub.requests}) == 8


@pytest.mark.parametrize(
    "fault",
    [
        Answer(500, {"error": "x"}),
        Answer(429, {"error": "slow down"}, {"Retry-After": "0.01"}),
        Answer(body=b'{"choices": [{"te'),
        Answer(body={"choices": []}),
        Answer(body={"choices": [{"text": None, "finish_reason": "stop"}]}),
        Answer(body={"choices": [{"text": "half an answer", "finish_reason": None}]}),
        Answer(body=b"{", headers={"Content-Length": "500"}),
        Answer(body={}, delay=2.0),
    ],
)
def test_what_passes_is_asked_again_and_what_stays_is_named(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
    fault: Answer,
) -> None:
    served = Served(model, tokenizer)
    stub.default, stub.script = served, [fault]
    asked = config(stub, server={"timeout_seconds": 0.8, "retries": 1})
    local = run(model, tokenizer, tmp_path / "a", GenerationConfig(max_new_tokens=6))
    assert [row["output"] for row in run(model, tokenizer, tmp_path / "b", asked)] == [row["output"] for row in local]
    assert len(stub.requests) == 9
    bad = SAMPLES[3].prompt
    stub.default = lambda body: fault if body["prompt"] == bad else served(body)
    with pytest.raises(DataError) as caught:
        run(model, tokenizer, tmp_path / "c", asked)
    assert str(caught.value).startswith("generation.server org/base: 1 of 8 prompts have no answer (row row3: ")
    assert str(caught.value).endswith("others are kept; look at the server's log, then run the same command again")
    stub.requests.clear()
    stub.default = served
    assert [row["output"] for row in run(model, tokenizer, tmp_path / "c", asked)] == [row["output"] for row in local]
    assert [request["prompt"] for request in stub.requests] == [bad]


def test_a_server_that_is_down_is_named(model: Any, tokenizer: Any, stub: Stub, tmp_path: Path) -> None:
    asked = config(stub, server={"base_url": "http://127.0.0.1:9/v1", "retries": 0})
    with pytest.raises(DataError, match=r"^generation.server org/base: the server at base_url http://127.0.0.1:9/v1 c"):
        run(model, tokenizer, tmp_path / "a", asked)


def test_a_server_that_reads_other_tokens_is_refused(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    stub.default = Served(model, tokenizer, bos=True)
    with pytest.raises(DataError, match="read 3 prompt tokens of row row0, which has 2: a second BOS"):
        run(model, tokenizer, tmp_path / "a", config(stub), SAMPLES[:1])
    run(model, tokenizer, tmp_path / "b", config(stub, server={"counts_prompts": False}), SAMPLES[:1])


def test_typed_control_tokens_are_sent_as_tokens_or_not_at_all(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    stub.default = Served(model, tokenizer)
    ids = [id_ for part in ("say <|im", "_end|>") for id_ in tokenizer.encode(part, add_special_tokens=False)]
    typed = [Sample("t", "say <|im_end|>", "x", ids)]
    with pytest.raises(DataError, match=r"row t: sent as text, the server would read other tokens .*prompts=tokens"):
        run(model, tokenizer, tmp_path / "a", config(stub), typed)
    assert stub.requests == []
    run(model, tokenizer, tmp_path / "a", config(stub, server={"prompts": "tokens"}), typed)
    assert stub.requests[0]["prompt"] == ids


def test_a_server_without_log_probabilities_is_refused(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    served = Served(model, tokenizer)
    stub.default = lambda body: served({**body, "logprobs": None})
    with pytest.raises(DataError, match="org/base: gives no log-probabilities; set generation.log_probabilities=false"):
        run(model, tokenizer, tmp_path / "a", config(stub, log_probabilities=True))


def test_the_probe_tells_another_model_from_the_one_under_test(
    stub: Stub,
    model: Any,
    other_model: Any,
    tokenizer: Any,
) -> None:
    stub.models = [{"id": "org/base", "root": "/models/base", "created": 7}, {"id": "other"}]
    stub.default = Served(model, tokenizer)
    note = served_by(model, tokenizer, SAMPLES, config(stub), "plain")
    assert note["name"] == "org/base" and note["base_url"] == stub.url and note["agreement"] == 1.0
    assert note["listed"] == {"id": "org/base", "root": "/models/base"}  # `created` changes at every start
    assert len(stub.requests) == 4
    stub.default = Served(other_model, tokenizer)
    with pytest.raises(DataError, match="answers 4 prompts unlike the weights under test: .*so it serves another m"):
        served_by(model, tokenizer, SAMPLES, config(stub), "plain")
    assert served_by(model, tokenizer, SAMPLES, config(stub, server={"probes": 0}), "plain")["agreement"] is None


def test_the_recorded_path_is_the_same(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    rows_folder: Path,
    tmp_path: Path,
) -> None:
    stub.default = Served(model, tokenizer)
    local = GenerationConfig(max_new_tokens=4)
    for out, settings in (("local", local), ("served", config(stub, max_new_tokens=4))):
        predict(model, tokenizer, rows_folder, "tiny", tmp_path / out, None, settings, "plain")
    rows = [read_predictions(tmp_path / out, "tiny", "generation") for out in ("local", "served")]
    kept = ("id", "prompt", "output", "reference", "finish_reason")
    assert [[row[name] for name in kept] for row in rows[0]] == [[row[name] for name in kept] for row in rows[1]]
    told = [read_policies(tmp_path / out)["tiny"] for out in ("local", "served")]
    assert {name for name in told[0] if told[0][name] != told[1].get(name)} == {"generation", "keys"}
    assert told[1]["served"]["name"] == "org/base" and told[1]["generation"].endswith("prompt never cut, by a server")
    asked = len(stub.requests)
    predict(model, tokenizer, rows_folder, "tiny", tmp_path / "served", None, config(stub, max_new_tokens=4), "plain")
    assert len(stub.requests) == asked == 12 + 4  # finished predictions need no server


def test_stops_that_the_server_does_not_know_are_sent(
    stub: Stub,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    stub.default = Served(model, tokenizer)
    assert stop_tokens(model, tokenizer, "chat") == [0, 2]
    generate(model, tokenizer, SAMPLES[:1], config(stub), "chat", tmp_path / "a")
    assert stub.requests[0]["stop"] == ["<|im_end|>"]


def test_a_server_is_asked_by_who_merges(
    stub: Stub, model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path
) -> None:
    """A rate limit holds for all ranks together only where one of them asks."""
    stub.default = Served(model, tokenizer)
    asked = config(stub, server={"probes": 0})
    with taking(Share(0, 2)):
        assert predict(model, tokenizer, rows_folder, "tiny", tmp_path, None, asked, "plain") == {}
    assert stub.requests == []
    predict(model, tokenizer, rows_folder, "tiny", tmp_path, None, asked, "plain")
    assert len(stub.requests) == 12


def test_the_evaluation_alone_asks_a_server_too(stub: Stub, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    rows = [{"prompt": f"river {n}", "completion": "mill"} for n in range(5)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stub.default = Served(model, tokenizer)
    server = {"base_url": stub.url, "served": {"model": "org/base"}}
    settings = EvalConfig.model_validate(
        {
            "model": str(tmp_path / "model"), "tasks": ["mine"], "data": {"mine": {"source": f"{tmp_path}/mine.jsonl"}},
            "template": "plain", "perplexity": None, "energy": None, "output": str(tmp_path / "out"),
            "generation": {"engine": "server", "max_new_tokens": 4, "server": server},
        }
    )  # fmt: skip
    found = measure(settings)
    assert found["policies"]["mine"]["served"]["agreement"] == 1.0
    with pytest.raises(DataError, match="no name for the model 'base'"):
        measure(settings.model_copy(update={"base": str(tmp_path / "model")}))

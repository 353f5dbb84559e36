"""A judge behind a server that times out, is busy, breaks, writes nonsense, or is not there at all."""

import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig, ServerJudge
from eval.judge.prompts import PAIR_LABELS, Question
from eval.judge.replies import Reply
from eval.judge.run import judge, read_verdicts
from eval.judge.server import ServerBackend
from tests.eval.judge.conftest import QUICK, Answer, Stub, completion, rows, verdict

pytestmark = pytest.mark.end_to_end

QUESTION = Question("q", "one", "two", None)


def backend(stub: Stub, **fields: Any) -> ServerBackend:
    given = {"base_url": stub.url, "model": "stub-judge", "retries": 2, "timeout_seconds": 5.0, **fields}
    return ServerBackend(ServerJudge(**given))


def ask(server: ServerBackend, count: int = 1, **fields: Any) -> list[Reply]:
    config = JudgeConfig(judges=[server.judge], **fields)
    questions = [QUESTION._replace(request=f"q{n}") for n in range(count)]
    found = dict(server.ask(config, questions))
    assert sorted(found) == list(range(count))
    return [found[n] for n in range(count)]


def test_a_verdict_and_what_was_sent(stub: Stub) -> None:
    [reply] = ask(backend(stub))
    assert reply == Reply(label="A", rationale="because")
    [request] = stub.requests
    assert request["model"] == "stub-judge" and request["temperature"] == 0 and request["seed"] == 0
    assert [turn["role"] for turn in request["messages"]] == ["user"]
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == list(PAIR_LABELS)
    assert list(schema["properties"]) == ["rationale", "verdict"]


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ([Answer(500, {"error": "x"})], 2),
        ([Answer(503, b"<html>busy</html>", {"Content-Type": "text/html"})], 2),
        ([Answer(429, {"error": "slow down"}), Answer(500, {})], 3),
        ([Answer(body=b'{"choices": [{"mess')], 2),
        ([Answer(body=b"")], 2),
        ([Answer(body={"choices": []})], 2),
        ([Answer(body={"object": "error", "message": "overloaded"})], 2),
        ([Answer(body=[1, 2])], 2),
        ([Answer(body=completion(None))], 2),
        ([Answer(body={"choices": [None]})], 2),
        ([Answer(body=b"{", headers={"Content-Length": "500"})], 2),  # the connection ends inside the body
    ],
)
def test_what_passes_is_asked_again(stub: Stub, answers: list[Answer], requests: int) -> None:
    stub.script = list(answers)
    assert ask(backend(stub))[0].label == "A"
    assert len(stub.requests) == requests


def test_retry_after_is_kept_to(stub: Stub) -> None:
    stub.script = [Answer(429, {"error": "later"}, {"Retry-After": "1.3"})]
    assert ask(backend(stub))[0].label == "A"
    assert stub.times[1] - stub.times[0] >= 1.3


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer(500, {"error": "x"}), "HTTP 500"),
        (Answer(429, {"error": "x"}, {"Retry-After": "0.01"}), "HTTP 429"),
        (Answer(body=b"not json"), "body is no JSON"),
        (Answer(body={"choices": []}), "no choices in the body"),
        (Answer(body=completion(None)), "no text in the body"),
        (Answer(body=completion("")), "empty reply"),
        (Answer(body=completion("I would rather not say.")), "no verdict in the reply"),
        (Answer(body=completion('{"rationale": "Both answers', "length")), "cut before the verdict"),
        (Answer(body=completion('{"verdict": "C"}')), "no verdict in the reply"),
        (Answer(body=completion('{"winner": "A"}')), "no verdict in the reply"),
    ],
)
def test_what_does_not_pass_is_a_named_failure(stub: Stub, answer: Answer, failure: str) -> None:
    stub.default = lambda _: answer
    assert ask(backend(stub, retries=1))[0] == Reply(failure=failure)


def test_an_unreadable_verdict_is_not_asked_for_again(stub: Stub) -> None:
    stub.default = lambda _: Answer(body=completion("no idea"))
    ask(backend(stub, retries=5))
    assert len(stub.requests) == 1


def test_a_server_that_does_not_answer_in_time(stub: Stub) -> None:
    stub.script = [Answer(body=completion("Verdict: B"), delay=3.0)]
    server = backend(stub, timeout_seconds=1.0, retries=1)
    assert ask(server)[0].label == "A"  # the repeat was answered
    stub.default = lambda _: Answer(body=completion("A"), delay=3.0)
    assert ask(server)[0].failure == "timed out after 1 s"


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_server_without_json_schema_is_asked_in_words_from_then_on(stub: Stub, status: int) -> None:
    def default(request: dict[str, Any]) -> Answer:
        if "response_format" in request:
            return Answer(status, {"error": "response_format is not supported"})
        return Answer(body=completion("Verdict: B"))

    stub.default = default
    assert [reply.label for reply in ask(backend(stub, concurrency=1, retries=0), 3)] == ["B"] * 3
    assert ["response_format" in request for request in stub.requests] == [True, False, False, False]


def test_a_question_that_is_refused_does_not_switch_the_schema_off(stub: Stub) -> None:
    stub.script = [Answer(400, {"error": "context too long"})] * 2
    replies = ask(backend(stub, concurrency=1), 2)
    assert [reply.failure for reply in replies] == ["HTTP 400", None]
    assert ["response_format" in request for request in stub.requests] == [True, False, True]


def test_no_more_than_concurrency_under_way(stub: Stub) -> None:
    stub.default = lambda _: Answer(body=completion("A"), delay=0.2)
    ask(backend(stub, concurrency=3), 12)
    assert 1 < stub.most_under_way <= 3


def test_the_rate_limit_holds_for_repeats_too(stub: Stub) -> None:
    stub.script = [Answer(500, {}, {"Retry-After": "0.01"})] * 2
    ask(backend(stub, requests_per_minute=600.0, concurrency=8), 6)
    assert len(stub.times) == 8 and stub.times[-1] - stub.times[0] >= 0.65  # 0.1 s apart when they leave


def test_a_judge_that_is_down_says_where_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ServerBackend(ServerJudge(base_url=f"http://127.0.0.1:{port}/v1", model="stub-judge", retries=0))
    with pytest.raises(DataError) as found:
        ask(server, 50)
    assert str(found.value).startswith(
        f"judge stub-judge: the server at base_url http://127.0.0.1:{port}/v1 cannot be reached ("
    )
    assert str(found.value).endswith("start it or correct base_url, then run the same command again")


def test_a_judge_that_goes_down_keeps_what_it_said(stub: Stub, tmp_path: Path) -> None:
    texts = [f"answer {n}" for n in range(40)]
    config = JudgeConfig(
        judges=[ServerJudge(base_url=stub.url, model="m", retries=0, concurrency=1, timeout_seconds=5.0)]
    )
    served = 0

    def default(_: dict[str, Any]) -> Answer:
        nonlocal served
        served += 1
        if served == 10:
            stub.server.shutdown()
            stub.server.server_close()
        return verdict("A")

    stub.default = default
    with pytest.raises(DataError, match="no longer answers; verdicts so far are kept; start it or correct base_url"):
        judge(config, rows(texts), rows([text + "!" for text in texts]), tmp_path, QUICK)
    kept = (tmp_path / "cache.jsonl").read_text().splitlines()
    assert 9 <= len(kept) <= 11 and not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("status", "what"), [(401, "wants another key"), (403, "forbids"), (404, "knows no such model")]
)
def test_a_server_that_refuses_stops_the_run_without_showing_the_key(
    stub: Stub, status: int, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-hunter2")
    stub.default = lambda _: Answer(status, {"error": {"message": "bad key sk-hunter2 for stub-judge"}})
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError, match=what) as found:
        ask(backend(stub, api_key_env="MY_KEY"))
    assert "hunter2" not in str(found.value) and "MY_KEY (is set)" in str(found.value)
    assert "\n" not in str(found.value) and stub.url in str(found.value)
    assert "hunter2" not in caplog.text
    assert stub.headers[0]["authorization"] == "Bearer sk-hunter2"


def test_without_a_key_none_is_sent(stub: Stub) -> None:
    ask(backend(stub))
    assert "authorization" not in stub.headers[0]


def test_a_key_never_reaches_the_folder(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    config = JudgeConfig(judges=[ServerJudge(base_url=stub.url, model="m", retries=0)])
    judge(config, rows(["a", "bb"]), rows(["aaa", "b"]), tmp_path, QUICK)
    assert all(b"hunter2" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_failures_are_counted_bounded_and_asked_again(stub: Stub, tmp_path: Path) -> None:
    """Ten pairs, two of which the judge cannot read at first."""
    config = JudgeConfig(judges=[ServerJudge(base_url=stub.url, model="m", retries=0)])

    def default(request: dict[str, Any]) -> Answer:
        text = request["messages"][0]["content"]
        if "question 3" in text or "question 7" in text:
            return Answer(body=completion("hm"))
        return verdict("A" if text.index("worse") > text.index("better") else "B")

    stub.default = default
    base, tuned = rows([f"worse {n}" for n in range(10)]), rows([f"better {n}" for n in range(10)])
    found = judge(config, base, tuned, tmp_path, QUICK)
    card = found["card"]
    assert found["metrics"]["win_rate"] == 1.0 and found["metrics"]["parse_failures"] == 0.2
    assert (card["n"], card["pairs"], card["incomplete"]) == (8, 10, 2)
    assert card["failures"] == {"count": 4, "of": 20, "reasons": {"no verdict in the reply": 4}}
    assert (card["win_rate_if_failures_lose"], card["win_rate_if_failures_win"]) == (0.8, 1.0)
    assert len(read_verdicts(tmp_path)) == 20

    asked, stub.default = len(stub.requests), lambda _: verdict("tie")
    again = judge(config, base, tuned, tmp_path, QUICK)
    assert len(stub.requests) - asked == 4  # only what had failed
    assert again["metrics"]["parse_failures"] == 0 and again["metrics"]["win_rate"] == 0.9
    assert json.loads((tmp_path / "summary.json").read_text()) == again


def test_a_judge_that_never_gives_a_verdict_is_an_error(stub: Stub, tmp_path: Path) -> None:
    stub.default = lambda _: Answer(body=completion("hm"))
    config = JudgeConfig(judges=[ServerJudge(base_url=stub.url, model="m", retries=0)])
    with pytest.raises(
        DataError, match=r"none of 2 pairs has a verdict; most often \(4 times\): no verdict in the reply"
    ):
        judge(config, rows(["a", "b"]), rows(["c", "d"]), tmp_path, QUICK)


def test_ctrl_c_does_not_wait_for_a_slow_server(stub: Stub) -> None:
    stub.script = [verdict("A")]
    stub.default = lambda _: Answer(body=completion("A"), delay=3.0)
    server = backend(stub, concurrency=2, timeout_seconds=10.0)
    replies = server.ask(JudgeConfig(judges=[server.judge]), [QUESTION._replace(request=f"{n}") for n in range(9)])
    next(replies)
    while stub.under_way < 1:
        time.sleep(0.01)
    replies.close()  # type: ignore[attr-defined]
    assert stub.under_way and len(stub.requests) <= 4  # it returned before the server did

"""A stub of an OpenAI-compatible server on loopback that misbehaves on request, and a judge without a model."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from eval.config import StatisticsConfig
from eval.judge.config import JudgeConfig, LocalJudge
from eval.judge.family import ModelIdentity
from eval.judge.prompts import Question
from eval.judge.replies import Reply

QUICK = StatisticsConfig(resamples=400)


class Answer:
    """One HTTP answer of the stub."""

    def __init__(self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None, delay: float = 0.0):
        self.status, self.headers, self.delay = status, headers or {}, delay
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


def completion(content: Any, finish_reason: str = "stop") -> dict[str, Any]:
    """The body of a good answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "stub", "choices": [choice]}


def verdict(label: str) -> Answer:
    return Answer(body=completion(json.dumps({"rationale": "because", "verdict": label})))


class Stub:
    """Requests are kept; `script` holds the next answers, then `default` answers."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.script: list[Answer] = []
        self.default: Callable[[dict[str, Any]], Answer] = lambda _: verdict("A")
        self.models: list[dict[str, Any]] = []
        """What /v1/models lists."""
        self.under_way = self.most_under_way = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub._lock:
                    stub.requests.append(body)
                    stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                    stub.times.append(time.monotonic())
                    stub.under_way += 1
                    stub.most_under_way = max(stub.most_under_way, stub.under_way)
                    answer = stub.script.pop(0) if stub.script else stub.default(body)
                time.sleep(answer.delay)
                with stub._lock:
                    stub.under_way -= 1
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                        self.send_header(name, value)
                    if "Content-Length" not in answer.headers:
                        self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:
                    pass  # the client has timed out and gone

            def do_GET(self) -> None:
                listed = json.dumps({"object": "list", "data": stub.models}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(listed)))
                self.end_headers()
                self.wfile.write(listed)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


class Oracle:
    """A judge by a function of the question; it counts what it is asked."""

    label_only = False

    def __init__(self, decide: Callable[[Question], Reply], name: str = "oracle"):
        self.decide, self.name, self.asked = decide, name, list[Question]()
        self.identity = {"kind": "oracle", "name": name}
        self.model = ModelIdentity(name)

    def ask(self, config: JudgeConfig, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for index, question in enumerate(questions):
            self.asked.append(question)
            yield index, self.decide(question)


def longer_wins(question: Question) -> Reply:
    if question.second is None:
        return Reply(label=str(min(5, max(1, len(question.first)))))
    gap = len(question.first) - len(question.second)
    return Reply(label="A" if gap > 0 else "B" if gap < 0 else "tie")


def rows(outputs: Sequence[str], **more: str) -> list[dict[str, Any]]:
    return [{"id": f"r{n:03}", "prompt": f"question {n}", "output": text, **more} for n, text in enumerate(outputs)]


def anyone(**fields: Any) -> JudgeConfig:
    """A configuration whose judge is given otherwise."""
    return JudgeConfig(judges=[LocalJudge(model="unused")], **fields)

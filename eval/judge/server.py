"""A judge behind an OpenAI-compatible server. The `openai` client does the transport: time-outs, repeats with growing
waits, Retry-After; here is what it cannot: a rate limit over repeats, unusable 200s, and telling a failed question from
a server that is down.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig, ServerJudge
from eval.judge.family import ModelIdentity
from eval.judge.prompts import Question, labels_of, message, verdict_schema
from eval.judge.replies import Reply, read_reply

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
_SHOWN = 160


class ServerBackend:
    """One model of one server."""

    label_only = False

    def __init__(self, judge: ServerJudge):
        self.judge = judge
        self._schema = judge.json_schema
        self._key = os.environ.get(judge.api_key_env) or None
        self._reached = False

    @property
    def name(self) -> str:
        """Model and address."""
        return f"{self.judge.model} at {self.judge.base_url}"

    @property
    def identity(self) -> dict[str, Any]:
        """Server, model and decoding. Whether the server changes the weights behind the name cannot be seen."""
        names = {"kind", "base_url", "model", "max_new_tokens", "temperature", "seed", "json_schema"}
        return self.judge.model_dump(include=names)

    @property
    def model(self) -> ModelIdentity:
        """By name alone."""
        return ModelIdentity(self.judge.model)

    def ask(self, config: JudgeConfig, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """`concurrency` questions under way at once, replies as they come."""
        if not questions:
            return
        pool = ThreadPoolExecutor(self.judge.concurrency)
        with self._client() as client:
            waiting, under_way = iter(range(len(questions))), dict[Future[Reply], int]()
            unreached = 0
            try:
                while True:
                    for index in waiting:
                        under_way[pool.submit(self._reply, client, config, questions[index])] = index
                        if len(under_way) >= self.judge.concurrency:
                            break
                    if not under_way:
                        return
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        index, reply = under_way.pop(future), self._checked(future)
                        unreached = unreached + 1 if (reply.failure or "").startswith("not reached") else 0
                        if unreached > 2 * self.judge.concurrency:
                            raise self._down("no longer answers; verdicts so far are kept")
                        yield index, reply
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _checked(self, future: "Future[Reply]") -> Reply:
        reply = future.result()
        if reply.failure is None or not reply.failure.startswith("not reached"):
            self._reached = True
        elif not self._reached:
            raise self._down(f"cannot be reached ({reply.failure.removeprefix('not reached: ')})")
        return reply

    def _down(self, what: str) -> DataError:
        return DataError(
            f"judge {self.judge.model}: the server at base_url {self.judge.base_url} {what}; start it or correct "
            "base_url, then run the same command again"
        )

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise DataError("judge server: the package openai is missing; pip install 'provetune[judge]'") from None
        limiter = _Limiter(self.judge.requests_per_minute)
        hooks = {"request": [lambda _request: limiter.wait()]}
        return openai.OpenAI(
            base_url=self.judge.base_url,
            api_key=self._key or "none",
            timeout=self.judge.timeout_seconds,
            max_retries=self.judge.retries,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks, timeout=self.judge.timeout_seconds),
        )

    def _reply(self, client: Any, config: JudgeConfig, question: Question) -> Reply:
        """One question, with a failure for everything that concerns only it."""
        import openai

        text = message(config, question, label_only=False)
        try:
            content, cut, unusable = self._complete(client, config, text)
            for attempt in range(self.judge.retries if unusable else 0):
                time.sleep(min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT))
                content, cut, unusable = self._complete(client, config, text)
                if unusable is None:
                    break
            return Reply(failure=unusable) if unusable else read_reply(content, labels_of(config), cut)
        except openai.APITimeoutError:
            return Reply(failure=f"timed out after {self.judge.timeout_seconds:g} s")
        except openai.APIConnectionError as error:
            return Reply(failure=f"not reached: {self._safe(str(error.__cause__ or error))}")
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except openai.APIStatusError as error:
            return Reply(failure=f"HTTP {error.status_code}")

    def _complete(self, client: Any, config: JudgeConfig, text: str) -> tuple[str, bool, str | None]:
        """(what the judge wrote, whether it was cut, why the body is of no use or None)."""
        import openai

        try:
            raw = self._send(client, config, text, schema=self._schema)
        except openai.APIStatusError as error:
            # So servers refuse a response_format that they do not know; `transformers serve` is one of them.
            if not self._schema or error.status_code not in (400, 422, 501):
                raise
            raw = self._send(client, config, text, schema=False)
            self._schema = False
        return _content(raw)

    def _send(self, client: Any, config: JudgeConfig, text: str, schema: bool) -> str:
        import openai

        body: dict[str, Any] = {"max_tokens": self.judge.max_new_tokens, "temperature": self.judge.temperature}
        if self.judge.seed is not None:
            body["seed"] = self.judge.seed
        if schema:
            wanted = {"name": "verdict", "strict": True, "schema": verdict_schema(config)}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        if self._key is None:  # a local server needs none, and some refuse a wrong one
            body["extra_headers"] = {"Authorization": openai.Omit()}
        turns = [{"role": "user", "content": text}]
        create = client.chat.completions.with_raw_response.create
        return create(model=self.judge.model, messages=turns, **body).text

    def _refused(self, error: Any) -> DataError:
        what = {401: "wants another key", 403: "forbids this", 404: "knows no such model or path"}[error.status_code]
        has = "is set" if self._key else "is not set"
        return DataError(
            f"judge {self.judge.model}: the server at base_url {self.judge.base_url} {what} (HTTP {error.status_code}: "
            f"{self._safe(str(error.message))}); check model, base_url and the environment variable "
            f"{self.judge.api_key_env} ({has})"
        )

    def _safe(self, text: str) -> str:
        """One short line, and never the key, which some servers repeat in their errors."""
        line = " ".join(text.replace(self._key, "***").split() if self._key else text.split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


class _Limiter:
    """Spaces requests of all threads evenly."""

    def __init__(self, per_minute: float | None):
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Sleep until this request's turn."""
        if not self._gap:
            return
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        time.sleep(max(0.0, turn - time.monotonic()))


def _content(raw: str) -> tuple[str, bool, str | None]:
    try:
        body = json.loads(raw)
    except ValueError:
        return "", False, "body is no JSON"
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return "", False, "no choices in the body"
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message_ = choice.get("message")
    content = message_.get("content") if isinstance(message_, dict) else None
    if not isinstance(content, str):
        return "", False, "no text in the body"
    return content, choice.get("finish_reason") == "length", None

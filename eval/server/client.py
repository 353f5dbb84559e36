"""The one way to an OpenAI-compatible server. The `openai` client does the transport: time-outs, repeats with growing
waits, Retry-After; here is what it cannot: a rate limit over repeats, unusable 200s, and telling a failed request from
a server that is down.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from data_prep.errors import DataError
from eval.server.config import ServerConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
_SHOWN = 160


@dataclass(frozen=True)
class Failed:
    """A request that got no usable answer, after all repeats."""

    why: str
    reached: bool = True


class Unusable(Exception):
    """Raised by who reads a body of no use: the request is repeated."""


@dataclass(frozen=True)
class Server(Generic[Item, Result]):
    """A server that answers items one by one."""

    config: ServerConfig
    who: str
    """At the head of errors: `judge NAME`."""
    kept: str
    """What is not lost when the server goes down."""
    ask: Callable[[Any, Item], Result]
    """Sends one request by the `openai` client it is given. May raise Unusable, DataError, and what the client does."""

    @property
    def headers(self) -> dict[str, Any]:
        """To send with every request: a local server needs no key, and some refuse a wrong one."""
        import openai

        return {} if self._key else {"Authorization": openai.Omit()}

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.config.api_key_env) or None

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Result | Failed]]:
        """The index of each item with its answer, as they come; `concurrency` requests are under way at once.

        Raises DataError for a server that cannot be reached, goes down, or refuses key, model or path.
        """
        if not items:
            return
        pool = ThreadPoolExecutor(self.config.concurrency)
        with self._client() as client:
            waiting, under_way = iter(range(len(items))), dict[Future[Result | Failed], int]()
            reached, unreached = False, 0
            try:
                while True:
                    for index in waiting:
                        under_way[pool.submit(self._settled, client, items[index])] = index
                        if len(under_way) >= self.config.concurrency:
                            break
                    if not under_way:
                        return
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        index, found = under_way.pop(future), future.result()
                        if isinstance(found, Failed) and not found.reached:
                            unreached += 1
                            if not reached:
                                raise self._down(f"cannot be reached ({found.why.removeprefix('not reached: ')})")
                            if unreached > 2 * self.config.concurrency:
                                raise self._down(f"no longer answers; {self.kept}")
                        else:
                            reached, unreached = True, 0
                        yield index, found
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def listed(self, model: str) -> dict[str, Any] | None:
        """What /v1/models says of a model; None where the server lists none of that name, or has no list."""
        import openai

        try:
            with self._client() as client:
                body = json.loads(client.models.with_raw_response.list(extra_headers=self.headers).text)
        except (openai.OpenAIError, ValueError):
            return None
        entries = body.get("data") if isinstance(body, dict) else None
        found = [one for one in entries or [] if isinstance(one, dict) and one.get("id") == model]
        return found[0] if found else None

    def _down(self, what: str) -> DataError:
        return DataError(
            f"{self.who}: the server at base_url {self.config.base_url} {what}; start it or correct "
            "base_url, then run the same command again"
        )

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise DataError(f"{self.who}: the package openai is missing; pip install 'provetune[judge]'") from None
        limiter = _Limiter(self.config.requests_per_minute)
        hooks = {"request": [lambda _request: limiter.wait()]}
        return openai.OpenAI(
            base_url=self.config.base_url,
            api_key=self._key or "none",
            timeout=self.config.timeout_seconds,
            max_retries=self.config.retries,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks, timeout=self.config.timeout_seconds),
        )

    def _settled(self, client: Any, item: Item) -> Result | Failed:
        """One request, with a failure for everything that concerns only it."""
        import openai

        try:
            return self._usable(client, item)
        except openai.APITimeoutError:
            return Failed(f"timed out after {self.config.timeout_seconds:g} s")
        except openai.APIConnectionError as error:
            return Failed(f"not reached: {self._safe(str(error.__cause__ or error))}", reached=False)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except openai.APIStatusError as error:
            return Failed(f"HTTP {error.status_code}")

    def _usable(self, client: Any, item: Item) -> Result | Failed:
        unusable = ""
        for attempt in range(self.config.retries + 1):
            if attempt:
                time.sleep(min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT))
            try:
                return self.ask(client, item)
            except Unusable as error:
                unusable = str(error)
        return Failed(unusable)

    def _refused(self, error: Any) -> DataError:
        what = {401: "wants another key", 403: "forbids this", 404: "knows no such model or path"}[error.status_code]
        has = "is set" if self._key else "is not set"
        return DataError(
            f"{self.who}: the server at base_url {self.config.base_url} {what} (HTTP {error.status_code}: "
            f"{self._safe(str(error.message))}); check model, base_url and the environment variable "
            f"{self.config.api_key_env} ({has})"
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


def first_choice(raw: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A body and its first choice; Unusable where there is none."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise Unusable("body is no JSON") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Unusable("no choices in the body")
    return body, choices[0] if isinstance(choices[0], dict) else {}

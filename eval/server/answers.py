"""Answers of a served model over /v1/completions: prompts, decoding and stops are those of the other engines."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_prep.errors import DataError
from eval.config import GenerationConfig
from eval.decoding.choose import Request, Row, seed_of
from eval.decoding.config import SampleDecoding
from eval.server.client import Failed, Server, Unusable, first_choice
from eval.server.config import GenerationServer

_ID = "token_id:"
"""How vLLM writes a token as its id."""


class Asked(NamedTuple):
    """A request, and what is sent as its prompt."""

    request: Request
    prompt: str | list[int]


class Served(NamedTuple):
    """An answer as the server gave it."""

    row: Row
    """The text's tokens; with log-probabilities also the stop token."""
    text: str
    reason: str
    """`stop` or `length`."""


class ModelOnServer:
    """One model under test behind a server."""

    def __init__(self, model: Any, tokenizer: Any, config: GenerationConfig, stops: frozenset[int]):
        """`stops` end an answer; a server knows those that stand in the model's own files."""
        assert config.server is not None
        self._tokenizer, self._config, self._stops = tokenizer, config, stops
        self._server: GenerationServer = config.server
        self.model = config.server.only
        own = model.generation_config.eos_token_id
        self._unknown = sorted(stops - set(own if isinstance(own, list) else [own]))
        self._stop_texts = [text for text in tokenizer.convert_ids_to_tokens(sorted(stops)) if text]

    @property
    def who(self) -> str:
        """At the head of errors."""
        return f"generation.server {self.model.name}"

    def answers(self, requests: Sequence[Request], texts: Mapping[str, str]) -> Iterator[Served]:
        """Answers as they come. `texts`: the rendered prompt of each request, by its id.

        What failed after all repeats is told at the end in one DataError, when all others are answered: no prompt is
        dropped, and none counts as answered by nothing.
        """
        asked = [Asked(request, self._wire(request, texts[request.id])) for request in requests]
        failed = list[tuple[str, str]]()
        for index, found in self._reached().each(asked):
            if isinstance(found, Failed):
                failed.append((requests[index].id, found.why))
            else:
                yield found
        if failed:
            name, why = failed[0]
            raise DataError(
                f"{self.who}: {len(failed)} of {len(requests)} prompts have no answer (row {name}: {why}); the others "
                "are kept; look at the server's log, then run the same command again"
            )

    def listed(self) -> dict[str, Any] | None:
        """What the server's own list says of the model, without what changes at every start."""
        found = self._reached().listed(self.model.name)
        told = ("id", "root", "parent", "owned_by", "max_model_len", "quantization")
        return {name: found[name] for name in told if found.get(name) is not None} if found else None

    def _reached(self) -> "Server[Asked, Served]":
        config = self._server.model_copy(update={"base_url": self.model.base_url})

        def ask(client: Any, asked: Asked) -> Served:
            send = client.completions.with_raw_response.create
            return self._read(asked, send(extra_headers=server.headers, **self._body(asked)).text)

        server = Server(config, self.who, "answers so far are kept", ask)
        return server

    def _body(self, asked: Asked) -> dict[str, Any]:
        decoding, known, beyond = self._config.decoding, self._server.knows, dict[str, Any]()
        body: dict[str, Any] = {"model": self.model.name, "prompt": asked.prompt, "temperature": 0.0}
        body["max_tokens"] = asked.request.new_tokens
        if isinstance(decoding, SampleDecoding):
            body["temperature"] = decoding.temperature
            body["seed"] = seed_of(decoding.seed, asked.request) % 2**31
            if decoding.top_p is not None:
                body["top_p"] = decoding.top_p
            settings = {"top_k": decoding.top_k, "min_p": decoding.min_p}
            beyond |= {name: value for name, value in settings.items() if value is not None and name in known}
        if "stop_token_ids" in known:
            beyond["stop_token_ids"] = sorted(self._stops)
        elif self._unknown:
            body["stop"] = self._tokenizer.convert_ids_to_tokens(self._unknown)[:4]
        if self._config.log_probabilities:
            body["logprobs"] = 1
            beyond |= {"return_tokens_as_token_ids": True} if "token_ids" in known else {}
        return body | {"extra_body": beyond}

    def _wire(self, request: Request, text: str) -> str | list[int]:
        """The prompt as it is sent: text that a server's tokenizer, which adds what it always adds, reads as ours."""
        ids = list(request.prompt)
        if self._server.prompts == "tokens":
            return ids
        begin = self._tokenizer.bos_token
        for candidate in (text, text.removeprefix(begin) if begin else text):
            if self._tokenizer(candidate)["input_ids"] == ids:
                return candidate
        raise DataError(
            f"row {request.id}: sent as text, the server would read other tokens than the template gives (control "
            "tokens that a user typed, or a BOS); set generation.server.prompts=tokens, or take engine=transformers"
        )

    def _read(self, asked: Asked, raw: str) -> Served:
        body, choice = first_choice(raw)
        text, reason = choice.get("text"), choice.get("finish_reason")
        if not isinstance(text, str):
            raise Unusable("no text in the body")
        if reason not in ("stop", "length"):
            raise Unusable(f"finish_reason {reason!r}")
        self._check_prompt(asked.request, body.get("usage"))
        ends = [place for stop in self._stop_texts if (place := text.find(stop)) >= 0]
        if ends:  # a server that shows its stop tokens, or goes on behind one that it does not know
            text, reason = text[: min(ends)], "stop"
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        row = Row(asked.request, tokens)
        if self._config.log_probabilities:
            row.tokens, row.log_probabilities = self._told(asked.request, tokens, reason, choice.get("logprobs"))
        return Served(row, text, reason)

    def _check_prompt(self, request: Request, usage: Any) -> None:
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if self._server.counts_prompts and isinstance(read, int) and read != len(request.prompt):
            raise DataError(
                f"{self.who}: read {read} prompt tokens of row {request.id}, which has {len(request.prompt)}: a second "
                "BOS, a template of the server's own, or another tokenizer; serve it without, or set "
                "generation.server.prompts=tokens (counts_prompts=false where its usage leaves cached tokens out)"
            )

    def _told(self, request: Request, tokens: list[int], reason: str, told: Any) -> tuple[list[int], list[float]]:
        """Token ids with their log-probabilities; DataError where the server gives none, or not of these tokens."""
        values = told.get("token_logprobs") if isinstance(told, dict) else None
        if not isinstance(values, list) or (tokens and not values):
            raise DataError(
                f"{self.who}: gives no log-probabilities; set generation.log_probabilities=false, or take "
                "engine=transformers"
            )
        names = [str(name) for name in told.get("tokens") or []]
        if names and all(name.startswith(_ID) for name in names):
            tokens = [int(name.removeprefix(_ID)) for name in names]
        elif reason == "stop" and len(values) == len(tokens) + 1:  # the stop token is told by its text, or by none
            stop = self._tokenizer.convert_tokens_to_ids(names[-1]) if names and names[-1] else None
            tokens = [*tokens, stop if stop in self._stops else self._tokenizer.eos_token_id]
        fits = len(values) == len(tokens) and all(isinstance(one, int | float) and math.isfinite(one) for one in values)
        if not fits:
            raise DataError(
                f"{self.who}: {len(values)} log-probabilities for the {len(tokens)} tokens of row {request.id}: its "
                "tokens are not the tokenizer's; add token_ids to generation.server.knows for vLLM, or set "
                "generation.log_probabilities=false"
            )
        return tokens, [float(one) for one in values]

"""A judge behind an OpenAI-compatible server; `eval.server.client` knows how servers are reached and fail."""

from collections.abc import Iterator, Sequence
from typing import Any

from eval.judge.config import JudgeConfig, ServerJudge
from eval.judge.family import ModelIdentity
from eval.judge.prompts import Question, labels_of, message, verdict_schema
from eval.judge.replies import Reply, read_reply
from eval.server.client import Failed, Server, Unusable, first_choice


class ServerBackend:
    """One model of one server."""

    label_only = False

    def __init__(self, judge: ServerJudge):
        self.judge = judge
        self._schema = judge.json_schema

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

        def reply(client: Any, question: Question) -> Reply:
            return self._reply(client, config, question, server.headers)

        server = Server(self.judge, f"judge {self.judge.model}", "verdicts so far are kept", reply)
        for index, found in server.each(questions):
            yield index, Reply(failure=found.why) if isinstance(found, Failed) else found

    def _reply(self, client: Any, config: JudgeConfig, question: Question, headers: dict[str, Any]) -> Reply:
        import openai

        text = message(config, question, label_only=False)
        try:
            raw = self._send(client, config, text, headers, schema=self._schema)
        except openai.APIStatusError as error:
            # So servers refuse a response_format that they do not know; `transformers serve` is one of them.
            if not self._schema or error.status_code not in (400, 422, 501):
                raise
            raw = self._send(client, config, text, headers, schema=False)
            self._schema = False
        _, choice = first_choice(raw)
        message_ = choice.get("message")
        content = message_.get("content") if isinstance(message_, dict) else None
        if not isinstance(content, str):
            raise Unusable("no text in the body")
        return read_reply(content, labels_of(config), choice.get("finish_reason") == "length")

    def _send(self, client: Any, config: JudgeConfig, text: str, headers: dict[str, Any], schema: bool) -> str:
        body: dict[str, Any] = {"max_tokens": self.judge.max_new_tokens, "temperature": self.judge.temperature}
        if self.judge.seed is not None:
            body["seed"] = self.judge.seed
        if schema:
            wanted = {"name": "verdict", "strict": True, "schema": verdict_schema(config)}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        turns = [{"role": "user", "content": text}]
        create = client.chat.completions.with_raw_response.create
        return create(model=self.judge.model, messages=turns, extra_headers=headers, **body).text

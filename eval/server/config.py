"""Where an OpenAI-compatible server is, and which models under test it serves. Imports only pydantic."""

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from data_prep.strict import StrictModel

SPEED = {"api_key_env", "concurrency", "requests_per_minute", "retries", "timeout_seconds"}
"""Fields of ServerConfig that change how a server is asked, and nothing of what it answers."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET_FIELDS = {"api_key", "key", "token", "secret", "password", "authorization", "headers"}


class ServerConfig(StrictModel):
    """An OpenAI-compatible server: vLLM, SGLang, Ollama, `transformers serve`, a gateway."""

    model_config = ConfigDict(hide_input_in_errors=True)  # what is refused may be a key in the wrong place

    base_url: str
    """Where the server listens, up to and with its version: http://localhost:8000/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; unset: no key is sent. The key is never stored or shown."""
    concurrency: int = Field(default=8, ge=1, le=512)
    """Requests under way at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Most requests started in a minute, repeats included; null: no limit."""
    retries: int = Field(default=4, ge=0, le=20)
    """How often a request is repeated after a time-out, 408, 409, 429, 5xx, a broken connection or an unusable body;
    the wait doubles, or is what the server's Retry-After says."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest silence of the server before a request counts as timed out."""

    @model_validator(mode="before")
    @classmethod
    def keys_have_no_field(cls, values: Any) -> Any:
        """Refused by name, so that no message about an unknown field shows the key."""
        found = sorted(_SECRET_FIELDS & values.keys()) if isinstance(values, dict) else []
        if found:
            raise ValueError(f"{found[0]}: a key has no place here; export it, and name its variable in api_key_env")
        return values

    @field_validator("base_url")
    @classmethod
    def base_url_is_a_place_without_secrets(cls, value: str) -> str:
        """http or https, a host, and no user name or password in it."""
        return place_of(value)

    @field_validator("api_key_env")
    @classmethod
    def api_key_env_is_a_name(cls, value: str) -> str:
        """The name of a variable, so that a key pasted here by mistake is refused and not shown."""
        if not _VARIABLE.fullmatch(value):
            raise ValueError("is no name of an environment variable (A-Z, 0-9, _); never write the key itself here")
        return value


def place_of(url: str) -> str:
    """An address of a server without its last slash; ValueError for anything else, and for secrets in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = "it" if "@" in url else repr(url)
        raise ValueError(f"{shown} is no address of a server; write http://HOST:PORT/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("holds a user name, password or query; name an environment variable in api_key_env")
    return url.rstrip("/")


class ServedModel(StrictModel):
    """How a model under test is called on its server."""

    name: str = Field(min_length=1)
    """The name by which the server knows it."""
    base_url: str | None = None
    """The server, where it is another one than the others'."""

    @field_validator("base_url")
    @classmethod
    def base_url_is_a_place_without_secrets(cls, value: str | None) -> str | None:
        """As that of the server."""
        return None if value is None else place_of(value)


class GenerationServer(ServerConfig):
    """The server that answers for the models under test; which weights it has loaded is checked by `probes`."""

    served: dict[str, ServedModel] = Field(min_length=1)
    """Model under test → its name on the server, or `{name: …, base_url: …}` where each has a server of its own. Every
    compared model needs one: `{base: org/model, sft: my-adapter}`."""
    prompts: Literal["text", "tokens"] = "text"
    """What is sent: the rendered prompt, or its token ids, which vLLM and SGLang take and which cannot be misread. A
    text that the server's tokenizer would read otherwise is refused by name."""
    knows: list[Literal["top_k", "min_p", "stop_token_ids", "token_ids"]] = []
    """What the server knows beyond OpenAI's own settings (vLLM: all of them; `token_ids` tells tokens exactly beside
    their log-probabilities). Others ignore such fields without a word, so they are sent only when named here."""
    counts_prompts: bool = True
    """Refuse a server that reads another number of prompt tokens than were rendered (a second BOS, a template of its
    own); false for one whose `usage` leaves cached tokens out."""
    probes: int = Field(default=4, ge=0)
    """Prompts that are first answered greedily by the server and by the weights under test; 0: nobody looks which
    weights are served."""
    least_agreement: float = Field(default=0.8, ge=0, le=1)
    """Smallest share of the probes' tokens on which both agree, each answer up to its first different token; another
    model stays far below."""

    @field_validator("served", mode="before")
    @classmethod
    def a_name_will_do(cls, value: Any) -> Any:
        """`sft: NAME` is short for `sft: {name: NAME}`."""
        if not isinstance(value, Mapping):
            return value
        return {model: {"name": told} if isinstance(told, str) else told for model, told in value.items()}

    @model_validator(mode="after")
    def served_models_are_different(self) -> "GenerationServer":
        """One served model under two names of ours would be compared with itself."""
        seen = dict[tuple[str, str], str]()
        for model, served in self.served.items():
            place = (served.base_url or self.base_url, served.name)
            if place in seen:
                raise ValueError(
                    f"served.{model} and served.{seen[place]} are both {served.name} at {place[0]}: a model would be "
                    "compared with itself; give each its own name or base_url"
                )
            seen[place] = model
        return self

    @property
    def only(self) -> ServedModel:
        """The one model that is left after `GenerationConfig.of_model`."""
        (served,) = self.served.values()
        return served if served.base_url else ServedModel(name=served.name, base_url=self.base_url)

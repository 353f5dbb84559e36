"""The run itself as report.json holds it: identity, environment, base model; and the base of every part."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

Value = TypeVar("Value")


def _absent_is_empty(kind: type) -> BeforeValidator:
    return BeforeValidator(lambda value: kind() if value is None else value)


Map = Annotated[dict[str, Value], _absent_is_empty(dict)]
Rows = Annotated[list[Value], _absent_is_empty(list)]


class Part(BaseModel):
    """The base of every part of the report: frozen, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Failure(Part):
    """Where and why a run stopped."""

    stage: str | None = None
    message: str | None = None
    log: str | None = None


class Run(Part):
    """Identity and outcome of the run."""

    id: str = ""
    status: str = ""
    failed: Failure | None = None
    command: str | None = None
    experiment: str | None = None
    started: str | None = None
    seconds: float | None = None
    provetune: str | None = None


class Git(Part):
    """The commit that ran, and whether the work tree differed from it."""

    commit: str | None = None
    dirty: bool | None = None
    diff_sha256: str | None = None


class Environment(Part):
    """Machine, versions and seeds."""

    python: str | None = None
    platform: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: float | None = None
    gpus: Rows[Any] = []
    threads: int | None = None
    packages: Map[str | None] = {}
    git: Git | None = None
    seed: int | None = None
    deterministic: bool | None = None


class Model(Part):
    """The base model."""

    name: str | None = None
    source: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    fingerprint: str | None = None
    template_sha256: str | None = None

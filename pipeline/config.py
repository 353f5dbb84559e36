"""The root of the configuration, and the strict gate that everything passes: past it nothing is a DictConfig.

The gate answers a typo with the nearest valid name before anything heavy is imported:
`stages.sft.lerning_rate: unknown key (value 0.001); did you mean learning_rate?`
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails

from data_prep.config import DatasetConfig
from data_prep.strict import StrictModel
from pipeline.contract import StageConfig
from pipeline.errors import ConfigError
from pipeline.stages import STAGES
from pipeline.stages.model.config import ModelConfig

Model = TypeVar("Model", bound=BaseModel)
LATEST = "latest"
"""The link beside the runs that points at the newest."""


class LaunchConfig(StrictModel):
    """Where training runs: changes the speed, never the result (outside every fingerprint)."""

    kind: Literal["single", "cpu_ranks", "gpus"] = "single"
    """`single`: one process. `cpu_ranks`: several CPU processes. `gpus`: one process per GPU, by Accelerate."""
    processes: int = Field(default=1, ge=1)
    """Number of training processes."""
    accelerate_config: str | None = None
    """An Accelerate config file of your own, handed to `accelerate launch --config_file`."""

    @model_validator(mode="after")
    def _one_means_one(self) -> "LaunchConfig":
        if self.kind == "single" and self.processes != 1:
            raise ValueError(
                f"launch=single runs 1 process, not {self.processes}; choose launch=cpu_ranks or launch=gpus"
            )
        if self.accelerate_config and self.kind != "gpus":
            raise ValueError("accelerate_config goes with launch=gpus")
        return self


class RunConfig(StrictModel):
    """One run, as composed by Hydra from conf/ and the command line."""

    experiment: str | None = None
    """Name of the experiment, for the run's folder and report."""
    mode: Literal["run", "plan"] = "run"
    """`plan` shows what would run, what is cached, memory and time."""
    run: list[str] = []
    """The stages in their order; the report is always made last."""
    stages: dict[str, SerializeAsAny[StageConfig]] = {}
    """Stage name → its configuration."""
    model: ModelConfig
    """The model that the first stage starts from."""
    data: dict[str, DatasetConfig] = Field(min_length=1)
    """Data set name → where it is and how it is read."""
    launch: LaunchConfig = LaunchConfig()
    """Processes and devices of the training stages."""
    seed: int = Field(default=42, ge=0)
    """Seed of everything random in training."""
    outputs: str = Field("outputs", min_length=1)
    """The folder of artifacts and runs."""
    run_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run's folder; without it, the time and the experiment."""
    lock_wait: float = Field(default=3600.0, ge=0)
    """Seconds to wait for another run that writes the same artifact."""

    @model_validator(mode="before")
    @classmethod
    def _choose_stage_classes(cls, values: Any) -> Any:
        """Each stage is read by the class that its `kind` names."""
        if not isinstance(values, Mapping) or not isinstance(values.get("stages"), Mapping):
            return values
        stages = {name: _stage_config(name, stage) for name, stage in values["stages"].items()}
        return {**values, "stages": stages}

    @model_validator(mode="after")
    def _stages_exist(self) -> "RunConfig":
        for name in self.run:
            if name not in self.stages:
                raise ValueError(f"run: no stage '{name}' under stages:{_nearest(name, self.stages)}")
        repeated = sorted({name for name in self.run if self.run.count(name) > 1})
        if repeated:
            raise ValueError(f"run: {repeated} named twice; give the second one a name of its own under stages:")
        if self.run_id == LATEST:
            raise ValueError(f"run_id: '{LATEST}' is the link to the newest run; choose another name")
        for name in (*self.stages, *self.data):
            if name == "base" or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"'{name}' cannot name a stage or data set: letters, digits, - and _ only, not 'base'")
        return self


def _stage_config(name: str, stage: Any) -> StageConfig:
    """Validate one stage by its kind; its errors carry the full key."""
    if isinstance(stage, StageConfig):
        return stage
    if not isinstance(stage, Mapping):
        raise ConfigError(f"stages.{name}: {stage!r} is not a section; write stages.{name}.kind=…")
    kind = stage.get("kind")
    if not isinstance(kind, str) or kind not in STAGES:
        raise ConfigError(
            f"stages.{name}.kind: unknown stage kind {kind!r}{_nearest(kind, STAGES)}; allowed: {', '.join(STAGES)}"
        )
    return validate(STAGES[kind], stage, prefix=f"stages.{name}")


def validate(model: type[Model], values: Any, prefix: str = "") -> Model:
    """Build `model` from plain values, or raise a ConfigError with one line per problem."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, model, prefix) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _explain(problem: ErrorDetails, model: type[BaseModel], prefix: str) -> str:
    """One line: key, value, what is allowed."""
    location = [str(part) for part in problem["loc"]]
    union_tags = {"lora", "none"}  # pydantic puts the chosen member of a tagged union into the path
    shown = [part for index, part in enumerate(location) if not (part in union_tags and index)]
    key = ".".join([*([prefix] if prefix else []), *shown])
    value, kind = problem.get("input"), problem["type"]
    if kind == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        return f"{key}: unknown key (value {value!r}){_nearest(location[-1], allowed)}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        return f"{key}: missing; set it in the configuration or on the command line"
    if kind == "value_error":
        reason = problem.get("ctx", {}).get("error", problem["msg"])
        return f"{key}: {reason}" if key else str(reason)
    return f"{key}: {value!r} is not allowed: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _fields_at(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """The names allowed in the section at `path`, found by walking the models' annotations."""
    current: list[type[BaseModel]] = [model]
    for part in path:
        step: list[type[BaseModel]] = []
        for candidate in current:
            by_tag = [candidate] if _has_tag(candidate, part) else []
            info = candidate.model_fields.get(part)
            step += by_tag or (_models_in(info.annotation) if info else [])
        current = step or current
    return [info.alias or name for candidate in current for name, info in candidate.model_fields.items()]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Whether `tag` is the value of the model's `kind` (how pydantic names a union's member in a path)."""
    info = model.model_fields.get("kind")
    return info is not None and tag in typing.get_args(info.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model class inside an annotation such as `dict[str, A | None]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict, list, Annotated):
        return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
    return []


def _nearest(name: Any, allowed: Iterable[str]) -> str:
    """`; did you mean X?` when a name is close to an allowed one."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f"; did you mean {close[0]}?" if close else ""

"""The strict gate: build a configuration class from plain values, or say in one line per problem what is wrong."""

import difflib
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

_BRANCH = re.compile(r"(literal|dict|list|tuple|set)\[|(str|int|float|bool|none|\[key\])$")
"""Members of a union that are no models, as pydantic puts them into the path of a problem."""


def build(model: type[Model], values: Any, prefix: str, refusal: type[Exception]) -> Model:
    """Build `model` from plain values, or raise a `refusal` with one line per problem; `prefix` stands before keys."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise refusal("\n".join(_lines(error.errors(), model, prefix))) from None


def _lines(problems: Iterable[ErrorDetails], model: type[BaseModel], prefix: str) -> list[str]:
    """A line per problem. Of a value that fits no member of a union, the members speak that went furthest into it."""
    told: dict[str, list[tuple[bool, str]]] = {}
    for problem in problems:
        location = [str(part) for part in problem["loc"] if not _BRANCH.match(str(part))]
        shown = [part for index, part in enumerate(location) if not _is_tag(model, location[:index], part)]
        key = ".".join([*([prefix] if prefix else []), *shown])
        told.setdefault(key, []).append((_is_of_other_type(problem), _explain(problem, model, location, key)))
    deepest = {key: each for key, each in told.items() if not any(other.startswith(f"{key}.") for other in told)}
    lines = [line for each in deepest.values() for other_type, line in each if other_type == min(each)[0]]
    return list(dict.fromkeys(lines))


def _is_of_other_type(problem: ErrorDetails) -> bool:
    return problem["type"].endswith("_type") and any(_BRANCH.match(str(part)) for part in problem["loc"])


def _explain(problem: ErrorDetails, model: type[BaseModel], location: list[str], key: str) -> str:
    """One line: key, value, what is allowed."""
    value, kind = problem.get("input"), problem["type"]
    if kind == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        return f"{key}: unknown key (value {value!r}){nearest(location[-1], allowed)}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        return f"{key}: missing; set it in the configuration or on the command line"
    if kind == "value_error":
        reason = problem.get("ctx", {}).get("error", problem["msg"])
        return f"{key}: {reason}" if key else str(reason)
    expected = problem.get("ctx", {}).get("expected", "") if kind == "literal_error" else ""
    close = nearest(value, re.findall(r"'([^']*)'", expected))
    return f"{key}: {value!r} is not allowed: {problem['msg'][0].lower()}{problem['msg'][1:]}{close}"


def _fields_at(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """The names allowed in the section at `path`, found by walking the models' annotations."""
    models = _models_at(model, path)
    return [info.alias or name for candidate in models for name, info in candidate.model_fields.items()]


def _models_at(model: type[BaseModel], path: Iterable[str]) -> list[type[BaseModel]]:
    current: list[type[BaseModel]] = [model]
    for part in path:
        step: list[type[BaseModel]] = []
        for candidate in current:
            by_tag = [candidate] if _has_tag(candidate, part) else []
            info = candidate.model_fields.get(part)
            step += by_tag or (models_in(info.annotation) if info else [])
        current = step or current
    return current


def _is_tag(model: type[BaseModel], path: list[str], part: str) -> bool:
    """Whether `part` is no key but the chosen member of a tagged union, which pydantic puts into the path."""
    return bool(path) and any(
        _has_tag(candidate, part) and part not in candidate.model_fields for candidate in _models_at(model, path)
    )


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Whether `tag` is the value of the model's `kind` (how pydantic names a union's member in a path)."""
    info = model.model_fields.get("kind")
    return info is not None and tag in typing.get_args(info.annotation)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model class inside an annotation such as `dict[str, A | None]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict, list, Annotated):
        return [model for argument in typing.get_args(annotation) for model in models_in(argument)]
    return []


def nearest(name: Any, allowed: Iterable[str]) -> str:
    """`; did you mean X?` when a name is close to an allowed one."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f"; did you mean {close[0]}?" if close else ""
